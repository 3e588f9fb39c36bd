"""What may hold code is refused by its bytes, whatever it is called, and is never run."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.errors import CloudError, Invalid
from fleet_cloud.factory.arrays import read_arrays
from fleet_cloud.factory.code import check_no_code
from fleet_cloud.factory.imported import ImportRequest, import_model
from fleet_shared.manifest import Preprocessing
from tests.kit.tiny_model import make_tiny_model


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def write_zip(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return path


def make(kind: str, folder: Path, sprung: Path) -> Path:
    path = folder / "model.tflite"
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(Trap(sprung), protocol=int(kind[-1])))
    elif kind == "pytorch":
        write_zip(path, archive__data_DOT_pkl=pickle.dumps(Trap(sprung)))
    elif kind == "keras":
        write_zip(path, config_DOT_json=b'{"class_name": "Lambda"}', model_DOT_weights_DOT_h5=b"")
    elif kind == "hdf5":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    elif kind == "saved model":
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"\x08\x01")
    else:
        write_zip(path, model__saved_model_DOT_pb=b"\x08\x01")
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "pickle 0",
        "pickle 2",
        "pickle 4",
        "pickle 5",
        "pytorch",
        "keras",
        "hdf5",
        "saved model",
        "zipped saved model",
    ],
)
def test_a_model_that_may_hold_code_is_refused(tmp_path: Path, kind: str) -> None:
    sprung = tmp_path / "sprung"
    file = make(kind, tmp_path, sprung)
    with pytest.raises(Invalid) as caught:
        import_model(ImportRequest(file, None, None, None, Preprocessing()))
    assert caught.value.code == "model.code"
    assert ".tflite" in caught.value.hint
    assert not sprung.exists()


def test_a_model_of_operators_and_numbers_is_let_through(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(make_tiny_model())
    check_no_code(file)
    check_no_code(tmp_path / "is not there")


def test_samples_with_a_pickle_in_them_are_refused_and_not_run(tmp_path: Path) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "samples.npz"
    trap = np.empty(1, dtype=object)
    trap[0] = Trap(sprung)
    np.savez(file, x=trap)
    with pytest.raises(CloudError):
        read_arrays(file, "model.samples")
    assert not sprung.exists()


@pytest.mark.parametrize("before", [512, 1024, 4096])
def test_hdf5_behind_a_block_of_the_user_is_found(tmp_path: Path, before: int) -> None:
    """HDF5 itself looks for the beginning of a file at 0, 512, 1024 and so on, and so does Keras then."""
    path = tmp_path / "model.h5"
    path.write_bytes(b"x" * before + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(CloudError) as refused:
        check_no_code(path)
    assert refused.value.code == "model.code"


@pytest.mark.parametrize("weights", [True, False])
def test_a_keras_file_behind_other_bytes_or_without_weights_is_found(tmp_path: Path, weights: bool) -> None:
    files = {"config_DOT_json": b"{}"} | ({"model_DOT_weights_DOT_h5": b""} if weights else {})
    path = write_zip(tmp_path / "model.keras", **files)
    path.write_bytes(b"of another kind" + path.read_bytes())
    with pytest.raises(CloudError) as refused:
        check_no_code(path)
    assert refused.value.code == "model.code"
