"""What a file says of itself, without TensorFlow."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.inspect import inspect_file
from fleet_shared.manifest import OpUse, Quantization, Tensor
from tests.cloud.factory.edited_model import with_body, with_op_version, with_types
from tests.kit.tiny_model import make_tiny_model


def test_tensors_ops_and_memory_of_a_file() -> None:
    content = make_tiny_model(classes=4, features=8)
    facts = inspect_file(content)
    assert facts.inputs == (Tensor(name="x", dtype="float32", shape=(1, 8)),)
    assert facts.outputs == (Tensor(name="y", dtype="float32", shape=(1, 4)),)
    assert facts.ops == (
        OpUse(name="FULLY_CONNECTED", version=1, dtypes=("float32", "float32", "")),
        OpUse(name="SOFTMAX", version=1, dtypes=("float32",)),
    )
    assert facts.memory_bytes == len(content) + 4 * (8 + 32 + 4 + 4)
    assert facts.runtimes == {
        "litert": ">=1.0",
        "tflite_runtime": ">=2.14",
        "openvino": ">=2025",
        "tvm": ">=0.27",
    }


def test_quantization_of_tensors() -> None:
    (taken,), (given,) = (facts := inspect_file(make_tiny_model(int8=True))).inputs, facts.outputs
    assert taken.dtype == given.dtype == "int8"
    assert given.quantization == Quantization(scale=1 / 256, zero_point=-128)
    assert facts.ops[0] == OpUse(name="FULLY_CONNECTED", version=4, dtypes=("int8", "int8", ""))


def test_a_runtime_that_is_known_to_fail_is_not_promised() -> None:
    facts = inspect_file(with_op_version(make_tiny_model(), 0, 12))
    assert facts.ops[0].version == 12
    assert "tflite_runtime" not in facts.runtimes


def test_ops_and_tensors_inside_of_a_while_count() -> None:
    outer = make_tiny_model(classes=4, features=8)
    facts = inspect_file(looped := with_body(outer, with_op_version(make_tiny_model(classes=4), 0, 12)))
    assert [(op.name, op.version, op.count) for op in facts.ops] == [
        ("FULLY_CONNECTED", 1, 1),
        ("FULLY_CONNECTED", 12, 1),
        ("SOFTMAX", 1, 2),
    ]
    assert "tflite_runtime" not in facts.runtimes, "gating sees the operator inside"
    assert facts.memory_bytes == len(looped) + 2 * 4 * (8 + 32 + 4 + 4)
    assert len(facts.inputs) == 1


TYPES = schema.TensorType


@pytest.mark.parametrize(
    ("int8", "types", "name"),
    [
        (False, {}, "fp32"),
        (True, {}, "int8"),
        (True, {"x": TYPES.FLOAT32, "y": TYPES.FLOAT32}, "int8"),
        (False, {"weights": TYPES.INT8}, "dynamic"),
        (False, {"weights": TYPES.FLOAT16}, "fp16"),
        (True, {"x": TYPES.INT16, "logits": TYPES.INT16, "y": TYPES.INT16}, "int16x8"),
        (True, dict.fromkeys(("x", "weights", "logits", "y"), TYPES.UINT8), "uint8"),
        (True, dict.fromkeys(("x", "weights", "logits", "y"), TYPES.INT16), "int16"),
    ],
)
def test_a_variant_is_named_by_its_arithmetic(int8: bool, types: dict[str, int], name: str) -> None:
    assert inspect_file(with_types(make_tiny_model(int8=int8), **types)).variant == name


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"\0\0\0\0TFL3", b"\0\0\0\0TFL3" + b"\xff" * 200, make_tiny_model()[:300]],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        inspect_file(content)
    assert caught.value.code == "model.file.invalid"
