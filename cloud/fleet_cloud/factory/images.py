"""Read images from a folder or an archive: one folder for each class, or none."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.labelled import check_labels, invalid
from fleet_cloud.factory.recipe.dataset import Dataset
from fleet_cloud.factory.samples import SPLIT_NAMES, Samples
from fleet_shared.manifest import Fit, ImageRules, Preprocessing, Resize
from fleet_shared.pixels import DAMAGE, fit_image

Array = NDArray[Any]
IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
_NO_CLASS: Final = (".", "__MACOSX")
"""How folders begin that tools leave behind."""
_FILE_DAMAGE: Final = (FileNotFoundError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)
_DAMAGE: Final = (
    *_FILE_DAMAGE,
    OSError,
    RuntimeError,  # an encrypted archive, an unknown compression
    tarfile.TarError,
)


@dataclass(frozen=True)
class _Image:
    name: PurePosixPath
    pixels: Array


@dataclass(frozen=True)
class _Found:
    """``images``: in the order of their names. ``skipped``: the names of those that cannot be read.
    ``folders``: those that were seen beside them."""

    images: Sequence[_Image]
    skipped: tuple[str, ...]
    folders: frozenset[PurePosixPath]


def read_images(path: Path, dataset: Dataset) -> Samples:
    """Return the images of a folder or an archive, by their folders, or without labels.

    Raises `RecipeError` (``recipe.data.invalid``) naming what is wrong.
    """
    preprocessing = plan_pixels(dataset)
    found = _read_all(path, dataset, preprocessing)
    images, skipped = found.images, found.skipped
    names = [image.name for image in images]
    if not images:
        raise invalid(f"{path} has no image", f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    x, given = (
        np.stack([image.pixels for image in images]),
        _find_splits(path, names, 2 if dataset.labels == "given" else 1),
    )
    if dataset.labels == "none":
        return Samples(x, None, (), preprocessing, given, dataset.task, skipped)
    everything = [*names, *map(PurePosixPath, skipped)]
    _check_folders(path, everything, found.folders)
    labels = _find_classes(path, everything)
    numbers = {label: number for number, label in enumerate(labels)}
    y = np.array([numbers[name.parent.name] for name in names], dtype=np.int64)
    _check_classes(path, labels, y)
    return Samples(x, y, labels, preprocessing, given, skipped=skipped)


def _read_all(path: Path, dataset: Dataset, preprocessing: Preprocessing) -> _Found:
    shape = (1, dataset.image_size, dataset.image_size, 1 if preprocessing.colour == "grey" else 3)
    images, skipped, folders = [], [], set()
    for name, content in _read_entries(path):
        if content is None:
            folders.add(PurePosixPath(name.rpartition("/")[0]))
            continue
        try:
            pixels = _read_image(content, f"{name} in {path}", preprocessing, shape)
        except RecipeError as exc:
            skipped.append(name)
            if len(skipped) > dataset.skip_max:
                raise _say_skipped(exc, len(skipped)) from exc
        else:
            images.append(_Image(PurePosixPath(name), pixels))
    return _Found(sorted(images, key=lambda image: image.name), tuple(sorted(skipped)), frozenset(folders))


def _say_skipped(error: RecipeError, count: int) -> RecipeError:
    if count == 1:
        return error
    return invalid(
        f"{error.message}; it is number {count} that cannot be read",
        "remove or replace them, or raise dataset.skip_max",
    )


def _check_classes(path: Path, labels: Sequence[str], y: NDArray[np.int64]) -> None:
    for number, label in enumerate(labels):
        if not np.any(y == number):
            raise invalid(f"class {label!r} in {path} has no image that can be read", "replace its images")


def _find_classes(path: Path, names: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """Return the names of the folders that hold images; each name means one folder, or one in each
    of the folders of splits."""
    folders: dict[str, PurePosixPath] = {}
    for name in names:
        label = name.parent.name
        folder = PurePosixPath(*(part for part in name.parent.parts if part not in SPLIT_NAMES))
        if folders.setdefault(label, folder) != folder:
            raise invalid(
                f"class {label!r} in {path} has two folders: {folders[label]} and {folder}",
                "one folder for each class; rename one, or move their images together",
            )
    labels = tuple(sorted(folders))
    if len(labels) < 2:
        raise invalid(
            f"{path} has {len(labels)} classes of images",
            "put images into one folder for each class: CLASS/name.png, or train/CLASS/name.png",
        )
    check_labels(labels, path)
    return labels


def _check_folders(path: Path, names: Sequence[PurePosixPath], folders: frozenset[PurePosixPath]) -> None:
    """Refuse a folder beside those of classes that holds no image: its class would be missing unseen."""
    full = {folder for name in names for folder in name.parents}
    beside = {name.parent.parent for name in names if name.parent.parts}
    seen = {above for folder in folders for above in (folder, *folder.parents)}
    for folder in sorted(seen - full):
        if folder.parent in beside and not folder.name.startswith(_NO_CLASS):
            raise invalid(
                f"class {folder.name!r} is empty: {folder} in {path} has no image",
                "put images of it there, or remove the folder",
            )


def plan_pixels(dataset: Dataset) -> Preprocessing:
    """Return how an image gets its form; nothing is said where it is the default."""
    rules = ImageRules(resize=Resize(dataset.resize), fit=Fit(dataset.fit), pad=dataset.pad)
    image = msgspec.UNSET if rules == ImageRules() else rules
    return Preprocessing(colour=dataset.colour or "rgb", scale=1 / 255, image=image)


def _read_image(content: bytes, name: str, preprocessing: Preprocessing, shape: tuple[int, ...]) -> Array:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return fit_image(image, preprocessing, shape)
    except DAMAGE as exc:
        raise invalid(
            f"{name} is no image that can be read", "remove or replace it, or set dataset.skip_max"
        ) from exc


def _find_splits(path: Path, names: Sequence[PurePosixPath], below: int) -> NDArray[np.int64] | None:
    """Return the split of each image by the folder above its class; none when no folder says so.
    ``below``: so many last parts of a name are the image's own."""
    above = [set(name.parts[:-below]) & set(SPLIT_NAMES) for name in names]
    if not any(above):
        return None
    for name, found in zip(names, above, strict=True):
        if len(found) != 1:
            raise invalid(
                f"{name} in {path} lies in {len(found)} of the folders train, validation and test",
                "once there is one of these folders, every image belongs into one of them",
            )
    return np.array([SPLIT_NAMES.index(next(iter(found))) for found in above], dtype=np.int64)


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the image files below a folder or in a zip or tar archive; the content is
    empty when that file alone cannot be read. Raise `RecipeError` (``recipe.data.invalid``) when all
    of it cannot."""
    for name, content in _read_entries(path):
        if content is not None:
            yield name, content


def _read_entries(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield also what is no image file, without content; names of folders end in a slash."""
    try:
        yield from _walk(path)
    except _DAMAGE as exc:
        # Its text may be an essay on each format that was tried.
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is damaged, or no archive"
        raise invalid(f"{path} cannot be read: {why}", "a folder, a .zip or a .tar of images") from exc


def _walk(path: Path) -> Iterator[tuple[str, bytes | None]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix() + "/" * file.is_dir()
            yield name, _read_file(file.read_bytes) if _is_image(name) else None
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                yield name, _read_file(partial(archive.read, name)) if _is_image(name) else None
    else:
        with tarfile.open(path) as tar:
            # In the order of the archive: seeking back would decompress it again for each member.
            for member in tar:
                reader = tar.extractfile(member) if member.isfile() and _is_image(member.name) else None
                yield member.name + "/" * member.isdir(), reader.read() if reader is not None else None


def _is_image(name: str) -> bool:
    return not name.endswith("/") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _read_file(read: Callable[[], bytes]) -> bytes:
    """Return nothing when this file alone is damaged: no image either."""
    try:
        return read()
    except _FILE_DAMAGE:
        return b""
