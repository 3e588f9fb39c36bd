"""Samples from folders, archives and .npz files, and every damage they come with."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo
from fleet_agent.worker.sources import LabelledSample, read_samples
from fleet_shared.manifest import Preprocessing

GREY = TensorInfo("x", np.dtype(np.float32), (1, 4, 6, 1), None)
RGB = TensorInfo("x", np.dtype(np.float32), (1, 4, 6, 3), None)
LABELS = ("cat", "dog")


def read(path: Path, info: TensorInfo = GREY, colour: str | None = "grey") -> list[LabelledSample]:
    return list(read_samples(path, LABELS, Preprocessing(colour=colour), info))


def png(value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name, content in {
        "cat/1.png": png(10),
        "cat/2.PNG": png(20, (12, 8)),
        "dog/3.png": png(30, mode="RGB"),
        "dog/notes.txt": b"no image",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def archives(folder: Path, tmp_path: Path) -> dict[str, Path]:
    made = {kind: Path(shutil.make_archive(str(tmp_path / "a"), kind, folder)) for kind in ("zip", "tar")}
    made |= {
        kind: Path(shutil.make_archive(str(tmp_path / "a"), kind, folder)) for kind in ("gztar", "xztar")
    }
    return made


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gztar", "xztar"])
def test_images_come_labelled_and_in_the_model_s_size(
    folder: Path, archives: dict[str, Path], kind: str
) -> None:
    samples = read(folder if kind == "folder" else archives[kind])
    found = sorted((sample.label or "", int(sample.array[0, 0, 0])) for sample in samples)
    assert found[:2] == [("cat", 10), ("cat", 20)]
    assert [label for label, _ in found] == ["cat", "cat", "dog"]
    assert {sample.array.shape for sample in samples} == {(4, 6, 1)}
    coloured = read(folder if kind == "folder" else archives[kind], RGB, "rgb")
    assert {sample.array.shape for sample in coloured} == {(4, 6, 3)}


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5])
def test_a_truncated_archive_is_said_to_be_damaged(
    archives: dict[str, Path], kind: str, share: float
) -> None:
    content = archives[kind].read_bytes()
    archives[kind].write_bytes(content[: int(len(content) * share)])
    refused(archives[kind], "worker.source.damaged")


@pytest.mark.parametrize("kind", ["zip", "gztar", "xztar"])
def test_flipped_bytes_give_samples_or_the_one_error(archives: dict[str, Path], kind: str) -> None:
    whole = archives[kind].read_bytes()
    codes = set()
    for place in range(0, len(whole), 7):
        archives[kind].write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(archives[kind])
        except WorkerError as exc:
            codes.add(exc.code)
    assert codes == {"worker.source.damaged"}


@pytest.mark.parametrize("name", ["cut.png", "no.png", "empty.png"])
def test_one_image_that_is_none_is_named(folder: Path, name: str) -> None:
    contents = {"cut.png": png(1, (64, 64))[:60], "no.png": b"text", "empty.png": b""}
    (folder / "cat" / name).write_bytes(contents[name])
    assert refused(folder, "worker.source.damaged").hint


def test_an_image_of_a_billion_pixels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "too large" in refused(folder, "worker.source.damaged").message


def test_an_encrypted_or_missing_source(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "worker.source.missing")
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat/1.png", png(1))
    raw = bytearray(archive.read_bytes())
    raw[6] |= 1  # the local header's flag: encrypted
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    refused(archive, "worker.source.damaged")


def test_an_npz_gives_names_for_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=np.zeros((4, 8)), y=np.array([0, 1, 2, -1]))
    assert [sample.label for sample in read(file)] == ["cat", "dog", "2", "-1"]
    np.savez(file, x=np.zeros((2, 8)))
    assert [sample.label for sample in read(file)] == [None, None]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((3, 2)), "y": np.array([1])},
        {"x": np.zeros((1, 2)), "y": np.array([1, 2])},
        {"x": np.zeros((1, 2)), "y": np.array(["one"])},
        {"x": np.zeros(())},
        {"z": np.zeros(1)},
    ],
)
def test_an_npz_that_does_not_fit_itself_is_damaged(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    refused(tmp_path / "a.npz", "worker.source.damaged")


def test_damaged_npz_files(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, x=np.random.default_rng(1).normal(size=(50, 8)))
    whole = file.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:]):
        file.write_bytes(part)
        refused(file, "worker.source.damaged")


def refused(path: Path, code: str) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read(path)
    assert caught.value.code == code
    return caught.value


def test_a_tar_with_folders_and_links_gives_its_files(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as tar:
        tar.addfile(_member("folder.png", tarfile.DIRTYPE))
        content = png(7)
        member = _member("cat/1.png", tarfile.REGTYPE)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert [sample.label for sample in read(file)] == ["cat"]


def _member(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    return member
