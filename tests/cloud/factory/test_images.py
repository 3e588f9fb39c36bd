"""Images of a folder or an archive: their classes and splits, and what is damaged or missing."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.data import load_splits, make_lab
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.recipe import Dataset
from fleet_shared.manifest import Fit, ImageRules, Preprocessing, Resize
from fleet_shared.pixels import to_real
from tests.kit.damaged_png import DAMAGES, damage_png

FLAT = {f"{label}/{n}.png": colour for label, colour in (("cat", 10), ("dog", 200)) for n in range(10)}


def png(value: int, size: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path, images: Mapping[str, int]) -> Path:
    for name, value in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(value))
    return folder


def pack(folder: Path, path: Path, method: int = zipfile.ZIP_STORED, *, files_only: bool = False) -> Path:
    """Write an archive of all that is in a folder; an entry of a folder has nothing in it."""
    entries = [entry for entry in sorted(folder.rglob("*")) if not (files_only and entry.is_dir())]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for entry in entries:
                archive.write(entry, entry.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz") as tar:
            for entry in entries:
                tar.add(entry, entry.relative_to(folder), recursive=False)
    return path


def test_a_folder_and_its_archives_hold_the_same_data(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", FLAT)
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar,
    ):
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
            tar.add(file, file.relative_to(folder))
    found = [
        load_splits(Dataset(kind="images", path=str(path), image_size=4), seed=1)
        for path in (folder, tmp_path / "a.zip", tmp_path / "a.tar.gz")
    ]
    assert found[0].labels == ("cat", "dog")
    assert found[0].train.x.shape[1:] == (4, 4, 3)
    assert set(found[0].train.x[found[0].train.y == 1].ravel().tolist()) == {200}
    assert len({splits.digest for splits in found}) == 1


def test_a_recipe_says_how_images_get_their_size_and_the_contract_will_too(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for label in ("cat", "dog"):
        (path / label).mkdir(parents=True)
        for number in range(8):
            wide = Image.new("RGB", (12, 6), (0, 0, 0))
            wide.paste((200, 200, 200), (3, 0, 9, 6))  # the middle, which a crop keeps
            wide.save(path / label / f"{number}.png")
    usual = load_splits(Dataset(kind="images", path=str(path), image_size=4, resize="nearest"), seed=1)
    assert usual.preprocessing.rules == ImageRules(resize=Resize.NEAREST)
    assert set(usual.test.x.ravel().tolist()) == {0, 200}
    dataset = Dataset(kind="images", path=str(path), image_size=4, resize="area", fit="crop")
    cropped = load_splits(dataset, seed=1)
    assert cropped.preprocessing.rules == ImageRules(resize=Resize.AREA, fit=Fit.CROP)
    assert set(cropped.test.x.ravel().tolist()) == {200}
    plain = load_splits(Dataset(kind="images", path=str(path), image_size=4), seed=1)
    assert plain.preprocessing == Preprocessing(colour="rgb", scale=1 / 255)


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    images = {
        f"set/{part}/{name}": value + add for name, value in FLAT.items() for part, add in PARTS.items()
    }
    splits = load_splits(
        Dataset(kind="images", path=str(write_images(tmp_path, images)), image_size=4), seed=1
    )
    assert set(splits.test.x.ravel().tolist()) == {11, 201}
    assert set(splits.train.x.ravel().tolist()) == {10, 200}
    assert len(splits.test.y) == 20
    assert len(splits.train.y) + len(splits.validation.y) == 20


PARTS = {"train": 0, "test": 1}


def test_an_image_outside_of_the_folders_of_splits_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/cat/1.png": 1, "train/dog/1.png": 1, "cat/2.png": 2})
    with pytest.raises(RecipeError, match=r"cat/2\.png") as caught:
        load_splits(Dataset(kind="images", path=str(tmp_path)), seed=1)
    assert caught.value.code == "recipe.data.invalid"


def test_a_damaged_image_and_a_damaged_archive_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    (tmp_path / "cat" / "3.png").write_bytes(png(3)[:45])
    with pytest.raises(RecipeError, match=r"cat/3\.png"):
        load_splits(Dataset(kind="images", path=str(tmp_path)), seed=1)
    for name in ("broken.zip", "broken.tar", "broken.npz"):
        (tmp_path / name).write_bytes(b"nothing of that kind")
        path = str(tmp_path / name)
        dataset = Dataset(kind="npz", path=path) if "npz" in name else Dataset(kind="images", path=path)
        with pytest.raises(RecipeError, match=name):
            load_splits(dataset, seed=1)


def test_one_class_name_under_two_folders_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    write_images(tmp_path, {"more/cat/1.png": 3})
    with pytest.raises(RecipeError, match=r"'cat' in .* has two folders: cat and more/cat") as caught:
        load_splits(Dataset(kind="images", path=str(tmp_path)), seed=1)
    assert caught.value.code == "recipe.data.invalid"


def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos.rar").write_bytes(b"Rar!" * 99)
    with pytest.raises(RecipeError, match=r"photos\.rar") as caught:
        load_splits(Dataset(kind="images", path=str(tmp_path / "photos.rar")), seed=1)
    assert "\n" not in caught.value.message


def test_images_that_cannot_be_read_are_left_out_up_to_a_limit_and_named(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    for name in ("cat/3.png", "dog/5.png"):
        (tmp_path / name).write_bytes(png(3)[:45])
    path, said = str(tmp_path), list[BuildEvent]()
    dataset = Dataset(kind="images", path=path, image_size=4, skip_max=2)
    splits = load_splits(dataset, seed=1)
    assert splits.skipped == ("cat/3.png", "dog/5.png")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 18
    make_lab(splits, 1, said.append)
    (warned,) = said
    assert isinstance(warned, Warned)
    assert "2 images cannot be read and were left out: cat/3.png, dog/5.png" in warned.message
    for limit, message in ((1, r"dog/5\.png in .*; it is number 2"), (0, r"cat/3\.png")):
        with pytest.raises(RecipeError, match=message) as caught:
            load_splits(Dataset(kind="images", path=path, image_size=4, skip_max=limit), seed=1)
        assert caught.value.code == "recipe.data.invalid"


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {**FLAT, "cow/1.png": 9})
    (tmp_path / "cow" / "1.png").write_bytes(b"no image")
    with pytest.raises(RecipeError, match=r"'cow' in .* has no image that can be read"):
        load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4, skip_max=5), seed=1)


@pytest.mark.parametrize("above", ["", "train/"])
def test_an_empty_class_is_refused(tmp_path: Path, above: str) -> None:
    images = FLAT if not above else {f"{part}/{name}": 7 for part in PARTS for name in FLAT}
    write_images(tmp_path, images)
    (tmp_path / f"{above}cow").mkdir()
    (tmp_path / f"{above}.cache").mkdir()
    with pytest.raises(RecipeError, match=r"class 'cow' is empty") as caught:
        load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4), seed=1)
    assert caught.value.code == "recipe.data.invalid"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("empty", ["cow", "cow/notes.txt"])
@pytest.mark.parametrize("above", ["", "train/"])
def test_an_empty_class_in_an_archive_is_refused(tmp_path: Path, name: str, empty: str, above: str) -> None:
    images = FLAT if not above else {f"{part}/{image}": 7 for part in PARTS for image in FLAT}
    folder = write_images(tmp_path / "folder", images)
    (folder / f"{above}__MACOSX").mkdir()
    (folder / f"{above}.cache").mkdir()
    dataset = Dataset(kind="images", path=str(pack(folder, tmp_path / name)), image_size=4)
    assert load_splits(dataset, seed=1).labels == ("cat", "dog")
    file = folder / f"{above}{empty}"
    file.mkdir() if not file.suffix else write_images(file.parent, {file.name: 0})
    pack(folder, tmp_path / name, files_only=bool(file.suffix))
    with pytest.raises(RecipeError, match=rf"class 'cow' is empty: {above}cow in .*{name}") as caught:
        load_splits(dataset, seed=1)
    assert caught.value.code == "recipe.data.invalid"


def test_a_folder_that_is_called_like_an_image_is_a_folder(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", {name.replace("cat", "cat.png"): 7 for name in FLAT})
    for path in (folder, pack(folder, tmp_path / "a.zip"), pack(folder, tmp_path / "a.tar")):
        splits = load_splits(Dataset(kind="images", path=str(path), image_size=4), seed=1)
        assert splits.labels == ("cat.png", "dog")


def check_skipped(path: Path, skipped: str) -> None:
    """It is the one image that cannot be read: left out where one may be, else named."""
    splits = load_splits(Dataset(kind="images", path=str(path), image_size=4, skip_max=1), seed=1)
    assert splits.skipped == (skipped,)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 19
    with pytest.raises(RecipeError, match=f"{skipped} in .* is no image that can be read"):
        load_splits(Dataset(kind="images", path=str(path), image_size=4), seed=1)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_is_one_image_that_cannot_be_read(tmp_path: Path, method: int) -> None:
    path = pack(write_images(tmp_path / "folder", FLAT), tmp_path / "a.zip", method)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("cat/3.png")
    content = bytearray(path.read_bytes())
    middle = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
    content[middle] ^= 0xFF
    path.write_bytes(content)
    check_skipped(path, "cat/3.png")
    path.write_bytes(content[:-40])
    with pytest.raises(RecipeError, match=r"a\.zip cannot be read: it is damaged"):
        load_splits(Dataset(kind="images", path=str(path), image_size=4, skip_max=99), seed=1)


def test_a_file_that_cannot_be_opened_is_one_image_that_cannot_be_read(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    (tmp_path / "cat" / "3.png").unlink()
    (tmp_path / "cat" / "3.png").symlink_to(tmp_path / "nowhere.png")
    check_skipped(tmp_path, "cat/3.png")


def test_nothing_but_files_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for name in FLAT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(RecipeError, match="has no image"):
        load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4, skip_max=99), seed=1)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_png_with_a_damaged_chunk_is_an_image_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path, FLAT)
    (tmp_path / "cat" / "3.png").write_bytes(damage_png(png(3), kind))
    check_skipped(tmp_path, "cat/3.png")


def test_a_folder_without_images_and_one_with_a_single_class_are_refused(tmp_path: Path) -> None:
    for images, message in (({}, "has no image"), ({"cat/1.png": 1, "cat/2.png": 2}, "has 1 classes")):
        write_images(tmp_path, images)
        with pytest.raises(RecipeError, match=message):
            load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4), seed=1)


def test_images_without_labels_are_split_all_the_same(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{number}.png": number for number in range(20)})
    dataset = Dataset(kind="images", path=str(tmp_path), image_size=4, labels="none")
    splits = load_splits(dataset, seed=1)
    assert (splits.train.y, splits.labels) == (None, ())
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [13, 3, 4]
    lab = make_lab(splits, 1, lambda _event: None)
    assert lab.train.y is None
    assert lab.draw(5).shape == (5, 4, 4, 3)


def test_images_without_labels_may_lie_in_folders_of_splits(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{part}/{number}.png": 7 for part in ("train", "test") for number in range(10)})
    splits = load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4, labels="none"), seed=1)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8, 2, 10]


def test_a_mean_for_other_channels_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    with pytest.raises(RecipeError, match="mean has 2 numbers for 3 channels"):
        load_splits(Dataset(kind="images", path=str(tmp_path), image_size=4, mean=(1.0, 2.0)), seed=1)


def test_a_recipe_says_how_values_become_the_models_input(tmp_path: Path) -> None:
    write_images(tmp_path, FLAT)
    dataset = Dataset(
        kind="images", path=str(tmp_path), image_size=4, colour="grey", scale=1.0, mean=(100.0,), std=(50.0,)
    )
    splits = load_splits(dataset, seed=1)
    assert splits.train.x.shape[1:] == (4, 4, 1)
    real = to_real(splits.train.x, splits.preprocessing).astype(np.float64)
    assert set(np.round(real, 5).ravel().tolist()) == {-1.8, 2.0}
    assert splits.preprocessing.colour == "grey"
