"""What the file says of its tensors is what the interpreter says."""

from pathlib import Path

import pytest

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.litert import LiteRt
from fleet_agent.runtimes.model_file import load_signature
from tests.kit.tiny_model import make_image_classifier, make_sum_and_product, make_tiny_model

FILES = {
    "float": make_tiny_model(),
    "int8": make_tiny_model(int8=True),
    "image": make_image_classifier(4, 6, 3),
    "two of each": make_sum_and_product((1, 5)),
}


@pytest.mark.parametrize("name", FILES)
def test_names_types_shapes_and_quantization_are_those_of_the_interpreter(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(FILES[name])
    model, read = LiteRt().load(str(file), 1), load_signature(str(file))
    assert (read.inputs, read.outputs) == (model.inputs, model.outputs)


@pytest.mark.parametrize(
    "damaged", [b"", b"short", b"1234TFL3", b"\xff" * 64, b"\xff" * 4 + b"TFL3" + b"\xff" * 64]
)
def test_what_is_no_model_is_refused(tmp_path: Path, damaged: bytes) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(damaged)
    with pytest.raises(WorkerError) as caught:
        load_signature(str(file))
    assert caught.value.code == "worker.model.rejected"
    with pytest.raises(WorkerError):
        load_signature(str(tmp_path / "missing.tflite"))


def load_code(file: Path) -> str | None:
    try:
        load_signature(str(file))
    except WorkerError as exc:
        return exc.code
    return None


def test_a_file_that_is_cut_off_or_changed_anywhere_never_raises_anything_else(tmp_path: Path) -> None:
    file, whole, codes = tmp_path / "model.tflite", FILES["int8"], set()
    for place in range(8, len(whole), 3):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            file.write_bytes(damaged)
            codes.add(load_code(file))
    assert codes == {None, "worker.model.rejected"}
