"""Whether a runtime can run a contract, at the boundary of each rule."""

import pytest

from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.manifest import OpUse
from fleet_shared.runtime_range import parse_runtime_version
from tests.shared.test_protocol import contract

DENSE = "FULLY_CONNECTED"


def dense(version: int, *dtypes: str, per_channel: bool = False, name: str = DENSE) -> OpUse:
    return OpUse(name=name, version=version, dtypes=dtypes, per_channel=per_channel)


@pytest.mark.parametrize(
    ("op", "refused"),
    [
        (dense(11, "float32", "int8"), False),
        (dense(12, "float32", "int8"), True),
        (dense(13), True),
        (dense(12, name="CONV_2D"), False),
        (dense(1, "float32", "int8", per_channel=True), True),
        (dense(1, "float32", "float32", per_channel=True), False),
        (dense(1, "int8", "int8", per_channel=True), False),
        (dense(1, "int8", "float32", per_channel=True), False),
        (dense(1, "float32", "int8", per_channel=True, name="CONV_2D"), False),
    ],
)
def test_which_dense_layers_tflite_runtime_cannot_run(op: OpUse, refused: bool) -> None:
    found = find_incompatibilities(contract(op), "tflite_runtime", "2.14.0")
    assert bool(found) is refused
    assert not find_incompatibilities(contract(op), "litert", "2.14.0")


@pytest.mark.parametrize(("version", "refused"), [("2.14.9", True), ("2.15.0", False), ("3.0", False)])
def test_the_rule_ends_after_its_last_version(version: str, refused: bool) -> None:
    assert bool(find_incompatibilities(contract(dense(12)), "tflite_runtime", version)) is refused


def test_the_oldest_version_of_the_contract_is_good_enough_and_reasons_are_said_once() -> None:
    assert find_incompatibilities(contract(), "tflite_runtime", "2.14") == ()
    (older,) = find_incompatibilities(contract(), "tflite_runtime", "2.13.9")
    assert older == "tflite_runtime 2.13.9 is older than >=2.14"
    (other,) = find_incompatibilities(contract(), "abacus", "1")
    assert "litert, tflite_runtime" in other
    assert len(find_incompatibilities(contract(dense(12), dense(13)), "tflite_runtime", "2.14")) == 1


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.14.0", (2, 14, 0)), (" 2 ", (2,)), ("2.x.3", (2,)), ("", ()), ("v2", ()), ("2.²", (2,)),
     ("999999999", (999_999_999,)), ("1000000000", ())],
)  # fmt: skip
def test_the_leading_numbers_of_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_runtime_version(text) == numbers


FLOAT, INT8, INT16 = "float32", "int8", "int16"


def op(name: str, *dtypes: str, version: int = 1) -> OpUse:
    return OpUse(name=name, version=version, dtypes=dtypes, per_channel=False)


@pytest.mark.parametrize(
    ("runtime", "version", "use", "refused"),
    [
        ("openvino", "2026.4.1", op("CONV_2D", INT8, INT8, "int32"), False),
        ("openvino", "2026.4.1", op("CONV_2D", FLOAT, INT8, FLOAT), False),
        ("openvino", "2026.4.1", op("FULLY_CONNECTED", FLOAT, INT8, ""), False),
        ("openvino", "2026.4.1", op("FULLY_CONNECTED", INT16, INT8, ""), True),
        ("openvino", "2026.4.1", op("REDUCE_MAX", INT8, "int32"), True),
        ("openvino", "2026.4.1", op("REDUCE_MAX", INT16, "int32"), False),
        ("openvino", "2026.4.1", op("REDUCE_MIN", INT8, "int32"), False),
        ("openvino", "2026.5.0", op("REDUCE_MAX", INT8, "int32"), False),
        ("openvino", "2026.4.1", op("RSQRT", INT16), True),
        ("tvm", "0.27.0.post1", op("CONV_2D", FLOAT, FLOAT, FLOAT), False),
        ("tvm", "0.27.0.post1", op("CONV_2D", INT8, INT8, "int32"), False),
        ("tvm", "0.27.0.post1", op("CONV_2D", FLOAT, INT8, FLOAT), True),
        ("tvm", "0.27.0.post1", op("CONV_2D", INT16, INT8, "int64"), True),
        ("tvm", "0.27.0.post1", op("FULLY_CONNECTED", FLOAT, INT8, ""), True),
        ("tvm", "0.27.0.post1", op("FULLY_CONNECTED", INT16, INT8, ""), False),
        ("tvm", "0.27.0.post1", op("TRANSPOSE_CONV", "int32", FLOAT, FLOAT), True),
        ("tvm", "0.27.0.post1", op("PAD", FLOAT, "int32"), False),
        ("tvm", "0.27.0.post1", op("PAD", INT8, "int32"), True),
        ("tvm", "0.27.0.post1", op("SPLIT", "int32", INT8), True),
        ("tvm", "0.27.0.post1", op("DYNAMIC_UPDATE_SLICE", FLOAT, FLOAT, "int32"), True),
        ("tvm", "0.28.0", op("PAD", INT8, "int32"), False),
        ("tflite_runtime", "2.14.0", op("SUM", INT16, "int32"), True),
        ("tflite_runtime", "2.14.0", op("SUM", INT8, "int32"), False),
        ("tflite_runtime", "2.14.0", op("SQRT", INT8), True),
        ("tflite_runtime", "2.14.0", op("TILE", INT16, "int32"), True),
        ("litert", "2.3.0", op("PAD", INT16, "int32"), False),
    ],
)
def test_what_each_runtime_was_found_not_to_run(
    runtime: str, version: str, use: OpUse, refused: bool
) -> None:
    """The table of docs/runtimes.md, row by row."""
    needs = contract(use, runtimes=dict.fromkeys(("litert", "tflite_runtime", "openvino", "tvm"), ""))
    assert bool(find_incompatibilities(needs, runtime, version)) is refused


def test_the_reason_is_that_of_the_rule_also_where_the_contract_lists_no_such_runtime() -> None:
    (why,) = find_incompatibilities(contract(op("PAD", INT8), op("TILE", INT8)), "tvm", "0.27.0")
    assert why.endswith("on quantized tensors (PAD, TILE)")
