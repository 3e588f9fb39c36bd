"""One form of a model file: the same bytes for the same weights, and nothing lost that is computed with."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.canonical import DATA_ALIGNMENT_BYTES, canonicalise
from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.wire import measure_wire
from fleet_shared.codec.codebook.tensors import find_tensors
from tests.cloud.factory.conversion import to_tflite
from tests.cloud.factory.edited_model import edit


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    one = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    two = keras.layers.Conv2D(8, 3, padding="same")(one)
    joined = keras.layers.Concatenate()([keras.layers.Add()([one, two]), one])
    flat = keras.layers.Flatten()(keras.layers.MaxPooling2D()(joined))
    return keras.Model(image, keras.layers.Dense(4, activation="softmax")(flat))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The same weights, converted twice, in models whose layers are numbered differently."""
    return {
        f"{kind}-{turn}": to_tflite(network(), quantize)
        for kind, quantize in (("fp32", False), ("int8", True))
        for turn in (1, 2)
    }


def answers(content: bytes) -> NDArray[Any]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    draw = np.random.default_rng(4)
    out = []
    for _ in range(5):
        interpreter.set_tensor(
            given["index"], draw.random((1, 8, 8, 1), dtype=np.float32).astype(given["dtype"])
        )
        interpreter.invoke()
        out.append(interpreter.get_tensor(taken["index"]))
    return np.concatenate(out)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_two_conversions_give_the_same_bytes(files: dict[str, bytes], kind: str) -> None:
    first, second = (canonicalise(files[f"{kind}-{turn}"]) for turn in (1, 2))
    assert first == second
    assert canonicalise(first) == first
    assert len(first) <= len(files[f"{kind}-1"])


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_it_computes_the_same(files: dict[str, bytes], kind: str) -> None:
    np.testing.assert_array_equal(answers(canonicalise(files[f"{kind}-1"])), answers(files[f"{kind}-1"]))


def test_signatures_stay_and_metadata_goes(files: dict[str, bytes]) -> None:
    before, after = (
        Interpreter(model_content=one) for one in (files["int8-1"], canonicalise(files["int8-1"]))
    )
    assert after.get_signature_list() == before.get_signature_list()
    for details in ("get_input_details", "get_output_details"):
        names = [getattr(one, details)()[0]["name"] for one in (before, after)]
        assert names[0] == names[1]
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(canonicalise(files["int8-1"])))
    assert model.metadata is None
    assert not model.description


def test_order_and_names_do_not_matter(files: dict[str, bytes]) -> None:
    """Buffers turned around, one of them twice, a tensor nobody uses, other names."""

    def shuffle(model: Any) -> None:
        count = len(model.buffers)
        graph = model.subgraphs[0]
        model.buffers = [schema.BufferT(), *model.buffers[::-1], *model.buffers]
        for number, tensor in enumerate(graph.tensors):
            tensor.buffer = count - tensor.buffer if number % 2 else count + 1 + tensor.buffer
            if number not in {*graph.inputs, *graph.outputs}:
                tensor.name = f"other_{number}"
        graph.tensors.append(schema.TensorT(shape=np.array([3], dtype=np.int32), name="nobody"))
        model.operatorCodes = [*model.operatorCodes, *model.operatorCodes]
        model.description = "of another converter"

    changed = edit(files["fp32-1"], shuffle)
    assert changed != files["fp32-1"]
    assert canonicalise(changed) == canonicalise(files["fp32-1"])


def scatter(content: bytes) -> bytes:
    """Return the file with its data behind the flatbuffer, as AI Edge Quantizer may write it."""
    behind = bytearray()

    def move(model: Any, begin: int) -> None:
        behind.clear()
        for buffer in model.buffers:
            if buffer.data is not None:
                buffer.offset, buffer.size = begin + len(behind), len(buffer.data)
                behind.extend(bytes(buffer.data))
                buffer.data = None

    length = len(edit(content, lambda model: move(model, 2)))  # what an offset is changes no length
    return edit(content, lambda model: move(model, length)) + bytes(behind)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_weights_behind_the_flatbuffer_come_into_it(files: dict[str, bytes], kind: str) -> None:
    content = canonicalise(files[f"{kind}-1"])
    scattered = scatter(content)
    assert scattered != content
    assert canonicalise(scattered) == content
    with pytest.raises(Invalid, match="are not all there"):
        canonicalise(scattered[:-1])


def test_other_weights_give_other_bytes(files: dict[str, bytes]) -> None:
    def nudge(model: Any) -> None:
        data = max((one.data for one in model.buffers if one.data is not None), key=len)
        data.flags.writeable or data.setflags(write=True)
        data[0] ^= 1

    assert canonicalise(edit_copy(files["fp32-1"], nudge)) != canonicalise(files["fp32-1"])


def edit_copy(content: bytes, change: Any) -> bytes:
    return edit(bytearray(content), change)  # type: ignore[arg-type]


def test_weights_are_aligned(files: dict[str, bytes]) -> None:
    content = canonicalise(files["int8-1"])
    places = find_tensors(content)
    assert len(places) > 3  # equal ones are one: the biases are zeros
    assert {place.begin % DATA_ALIGNMENT_BYTES for place in places} == {0}


@pytest.mark.parametrize("content", [b"", b"none at all", b"\x10\0\0\0TFL3" + b"\xff" * 40])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        canonicalise(content)
    assert refused.value.code == "model.file.invalid"


def test_the_wire_is_measured(files: dict[str, bytes]) -> None:
    measured = measure_wire(files["int8-1"])
    assert list(measured) == ["identity", "zstd", "codebook", "xz"]
    assert measured["identity"] == len(files["int8-1"])
    assert measured["codebook"] < measured["zstd"] < measured["identity"]


def test_a_constant_without_values_stays_one(files: dict[str, bytes]) -> None:
    """Axes to sum over, none of them: without data the runtime waits for somebody to compute it."""

    def empty(model: Any) -> None:
        buffer = schema.BufferT()
        buffer.data = np.zeros(0, dtype=np.uint8)
        model.buffers.append(buffer)
        graph = model.subgraphs[0]
        graph.tensors.append(
            schema.TensorT(shape=np.array([0], dtype=np.int32), buffer=len(model.buffers) - 1, name="none")
        )
        operator = graph.operators[0]
        operator.inputs = np.append(operator.inputs, len(graph.tensors) - 1).astype(np.int32)

    content = canonicalise(edit(files["fp32-1"], empty))
    model: Any = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    tensor = graph.Tensors(int(graph.Operators(0).InputsAsNumpy()[-1]))
    assert tensor.Buffer() > 0
    assert not model.Buffers(tensor.Buffer()).DataIsNone()
    assert model.Buffers(0).DataIsNone()


@pytest.mark.parametrize("damage", ["tensor", "buffer", "graph of a signature"])
def test_numbers_that_lead_nowhere_are_refused(files: dict[str, bytes], damage: str) -> None:
    def break_it(model: Any) -> None:
        graph = model.subgraphs[0]
        if damage == "tensor":
            graph.operators[0].inputs = np.array([10_000], dtype=np.int32)
        elif damage == "buffer":
            graph.tensors[graph.inputs[0]].buffer = 10_000
        else:
            model.signatureDefs[0].subgraphIndex = 9

    with pytest.raises(Invalid) as refused:
        canonicalise(edit(files["fp32-1"], break_it))
    assert refused.value.code == "model.file.invalid"


def parts() -> keras.Model:
    """Branches that the converter may put in any order: residual, depthwise, concatenated; logits out."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((8, 8, 1))
    stem = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(image)))
    inner = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", activation="relu")(stem))
    sum_ = layers.Add()([stem, inner])
    branches = [layers.Conv2D(8, size, padding="same", activation="relu")(sum_) for size in (1, 3, 5)]
    wide = layers.DepthwiseConv2D(3, padding="same", activation="relu")(sum_)
    pooled = layers.GlobalAveragePooling2D()(layers.Concatenate()([wide, *branches]))
    return keras.Model(image, layers.Dense(4)(layers.Dense(48, activation="relu")(pooled)))


@pytest.mark.long  # two processes that load TensorFlow
@pytest.mark.timeout(900)
def test_two_processes_that_hash_differently_give_the_same_bytes(tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(write_keras(parts()))
    files = []
    for seed in ("1", "4242"):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-m", "tests.cloud.factory.converting", str(model), str(folder)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        files.append({one.name: one.read_bytes() for one in folder.iterdir()})
    assert len(files[0]) == len(set(files[0].values())) == 6
    assert {name: content == files[1][name] for name, content in files[0].items()} == dict.fromkeys(
        files[0], True
    )
