"""A recipe with its files travels whole, and what a bundle says is not believed."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.entrypoints.bundles import RECIPE_BYTES_MAX, pack_bundle, unpack_bundle
from fleet_cloud.errors import Invalid
from fleet_cloud.factory.recipe import load_recipe

NPZ = """\
model: digits
dataset: {kind: npz, path: data/samples.npz}
"""


def recipe(folder: Path, text: str = NPZ) -> Path:
    (folder / "data").mkdir(parents=True)
    np.savez(folder / "data" / "samples.npz", x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def write(folder: Path, content: bytes) -> Path:
    (folder / "bundle.zip").write_bytes(content)
    return folder / "bundle.zip"


def test_a_recipe_comes_out_as_it_went_in_with_its_data(tmp_path: Path) -> None:
    source = recipe(tmp_path / "here")
    model, content = pack_bundle(source)
    there = unpack_bundle(write(tmp_path, content), tmp_path / "there", allow_code=False)
    assert model == "digits"
    before, after = load_recipe(source), load_recipe(there)
    assert after.dataset.path is not None
    assert Path(after.dataset.path).is_relative_to(tmp_path / "there")
    assert Path(after.dataset.path).read_bytes() == (tmp_path / "here/data/samples.npz").read_bytes()
    assert (after.training, after.architecture, after.variants) == (
        before.training,
        before.architecture,
        before.variants,
    )


def test_a_folder_of_images_keeps_its_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "here" / "pictures" / name).mkdir(parents=True)
        (tmp_path / "here" / "pictures" / name / "1.png").write_bytes(name.encode())
    (tmp_path / "here" / "recipe.yaml").write_text("model: pets\ndataset: {kind: images, path: pictures}\n")
    _, content = pack_bundle(tmp_path / "here" / "recipe.yaml")
    there = unpack_bundle(write(tmp_path, content), tmp_path / "there", allow_code=False)
    folder = Path(load_recipe(there).dataset.path or "")
    assert (folder / "dog" / "1.png").read_bytes() == b"dog"


PYTHON = "model: m\narchitecture: {kind: python, path: net.py, function: make}\n"
KERAS = "model: m\narchitecture: {kind: file, path: net.h5}\n"


@pytest.mark.parametrize(("text", "file"), [(PYTHON, "net.py"), (KERAS, "net.h5")])
def test_code_is_refused_unless_it_is_allowed(tmp_path: Path, text: str, file: str) -> None:
    source = recipe(tmp_path / "here", text)
    (source.parent / file).write_bytes(b"\x89HDF\r\n\x1a\n and more")
    _, content = pack_bundle(source)
    with pytest.raises(Invalid) as refused:
        unpack_bundle(write(tmp_path, content), tmp_path / "there", allow_code=False)
    assert refused.value.code == "model.code"
    assert unpack_bundle(write(tmp_path, content), tmp_path / "other", allow_code=True).is_file()


@pytest.mark.parametrize("name", ["../outside", "/outside", "files/../../outside", "files\\outside"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("recipe.yaml", json.dumps({"model": "m"}))
        archive.writestr(name, "x")
    with pytest.raises(Invalid) as refused:
        unpack_bundle(tmp_path / "bundle.zip", tmp_path / "deep" / "there", allow_code=False)
    assert refused.value.code == "build.bundle"
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and nothing"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        unpack_bundle(write(tmp_path, content), tmp_path / "there", allow_code=False)
    assert refused.value.code == "build.bundle"


def test_a_bomb_stops_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_cloud.entrypoints.bundles.UNPACKED_BYTES_MAX", 1000)
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recipe.yaml", json.dumps({"model": "m"}))
        archive.writestr("zeros", bytes(2000))
    with pytest.raises(Invalid, match="more than"):
        unpack_bundle(tmp_path / "bundle.zip", tmp_path / "there", allow_code=False)
    assert not (tmp_path / "there" / "zeros").exists()


def bundle(folder: Path, recipe_text: str, *names: str, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "bundle.zip", "w", kind) as archive:
        archive.writestr("recipe.yaml", recipe_text)
        for name in names:
            archive.writestr(name, "content of a file that is long enough to be damaged within")
    return folder / "bundle.zip"


def refuse(path: Path, folder: Path, *, allow_code: bool = False) -> Invalid:
    with pytest.raises(Invalid) as refused:
        unpack_bundle(path, folder, allow_code=allow_code)
    return refused.value


@pytest.mark.parametrize("names", [("a", "a/b"), ("x" * 300,)])
def test_names_that_no_folder_takes_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = bundle(tmp_path, '{"model": "m"}', *names)
    assert refuse(path, tmp_path / "there").code == "build.bundle"


def test_a_damaged_or_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(bundle(tmp_path, '{"model": "m"}', "a", kind=zipfile.ZIP_DEFLATED).read_bytes())
    encrypted = content.copy()
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        encrypted[encrypted.index(mark) + flags] |= 1
    damaged = content.copy()
    begin = damaged.index(b"PK\x03\x04") + 30 + len("recipe.yaml")
    damaged[begin : begin + 4] = b"\xff" * 4
    for other in (encrypted, damaged):
        assert refuse(write(tmp_path, bytes(other)), tmp_path / "there").code == "build.bundle"


@pytest.mark.parametrize("allow_code", [False, True])
def test_files_of_the_worker_are_no_data_of_a_build(tmp_path: Path, allow_code: bool) -> None:
    (tmp_path / "secret.npz").write_bytes(b"of the worker")
    for path in (str(tmp_path / "secret.npz"), "../secret.npz"):
        text = json.dumps({"model": "m", "dataset": {"kind": "npz", "path": path}})
        refused = refuse(bundle(tmp_path, text), tmp_path / "there", allow_code=allow_code)
        assert refused.code == "build.bundle"
        assert "did not come with it" in refused.message


@pytest.mark.parametrize(
    "text", ["model: m", "a: &a [1, 2]\nb: [*a, *a]", "[" * 100_000, '"' + "x" * RECIPE_BYTES_MAX + '"']
)
def test_a_recipe_in_a_bundle_is_short_json(tmp_path: Path, text: str) -> None:
    """Aliases of YAML unfold without end where the recipe is looked through."""
    assert refuse(bundle(tmp_path, text), tmp_path / "there").code == "build.bundle"
