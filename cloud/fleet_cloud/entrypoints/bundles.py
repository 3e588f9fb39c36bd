"""A recipe and the files that it names, in one archive: how a build travels to a shared worker.

What comes out is believed in nothing: names stay inside the folder, sizes are bounded, and files that can
hold code are refused unless whoever runs the worker allows them.
"""

import io
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from fleet_cloud.errors import Invalid
from fleet_shared.limits import MIB

BUNDLE_BYTES_MAX: Final = 512 * MIB
UNPACKED_BYTES_MAX: Final = 4096 * MIB
FILES_MAX: Final = 500_000
RECIPE: Final = "recipe.yaml"
RECIPE_BYTES_MAX: Final = 1 * MIB
_PATHS: Final = (("dataset", "path"), ("architecture", "path"), ("architecture", "weights"))
"""Where a recipe names files."""
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, ValueError, EOFError, OSError)
"""What an archive causes that is damaged, encrypted, or has names that no folder takes."""


def pack_bundle(recipe: Path) -> tuple[str, bytes]:
    """Return the name of the model and the archive. Raises `RecipeError`, and `Invalid`
    (``build.bundle.size``) for more than `BUNDLE_BYTES_MAX`."""
    from fleet_cloud.factory.recipe import describe_recipe, load_recipe

    loaded = load_recipe(recipe)
    document = describe_recipe(loaded)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (part, key) in enumerate(_places(document)):
            source = recipe.parent / part[key]
            part[key] = f"files/{number}/{source.name}"
            _add(archive, source, part[key])
            _check_size(target.tell())
        archive.writestr(RECIPE, msgspec.json.encode(document))  # JSON is YAML
    return loaded.model, target.getvalue()


def unpack_bundle(bundle: Path, folder: Path, *, allow_code: bool) -> Path:
    """Write a bundle's files below ``folder`` and return the recipe there. Raises `Invalid`
    (``build.bundle``, ``model.code``)."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            _extract(archive, folder)
    except _DAMAGE as exc:
        raise _invalid(str(exc)) from exc
    recipe = folder / RECIPE
    if not recipe.is_file():
        raise _invalid(f"it has no {RECIPE}")
    _check_plain(recipe)
    document = _load(recipe)
    _check_inside(document, folder)
    if not allow_code:
        _check_no_code(document)
    return recipe


def _check_plain(recipe: Path) -> None:
    """`pack_bundle` writes JSON; all else of YAML is for people, and its aliases unfold without end."""
    if recipe.stat().st_size > RECIPE_BYTES_MAX:
        raise _invalid(f"its recipe has more than {RECIPE_BYTES_MAX} bytes")
    try:
        msgspec.json.decode(recipe.read_bytes())
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise _invalid(f"its recipe is no JSON: {exc}") from exc


def _load(recipe: Path) -> dict[str, Any]:
    from fleet_cloud.factory.recipe import load_recipe

    document: dict[str, Any] = msgspec.to_builtins(load_recipe(recipe))
    return document


def _check_inside(document: dict[str, Any], folder: Path) -> None:
    """Files of the worker itself, or of other people's builds, are no data for this one."""
    for part, key in _places(document):
        if not Path(part[key]).resolve().is_relative_to(folder.resolve()):
            raise _invalid(f"its recipe names {part[key]}, which did not come with it")


def _places(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the parts of a recipe that name a file, and the key that does."""
    teachers = document.get("teachers") or {}
    parts = [(document.get(part) or {}, key) for part, key in _PATHS]
    for teacher in teachers.values():
        inside = teacher.get("architecture") or {}
        parts += [(teacher, "file"), (inside, "path"), (inside, "weights")]
    for part, key in parts:
        if part.get(key) is not None:
            yield part, key


def _add(archive: zipfile.ZipFile, source: Path, name: str) -> None:
    if not source.is_dir():
        archive.write(source, name)
        return
    for file in sorted(source.rglob("*")):
        if file.is_file():
            archive.write(file, f"{name}/{file.relative_to(source).as_posix()}")


def _check_size(size: int) -> None:
    if size > BUNDLE_BYTES_MAX:
        raise Invalid(
            f"the recipe and its files have more than {BUNDLE_BYTES_MAX // MIB} MiB",
            hint="build on the machine where the data is: fleet build without --remote",
            code="build.bundle.size",
        )


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > FILES_MAX:
        raise _invalid(f"it has {len(entries)} files")
    left = UNPACKED_BYTES_MAX
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            raise _invalid(f"{entry.filename!r} leads outside")
        left -= entry.file_size  # the reader stops there, whatever follows
        if left < 0:
            raise _invalid(f"it unpacks to more than {UNPACKED_BYTES_MAX // MIB} MiB")
        target = folder.joinpath(*name.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _check_no_code(document: dict[str, Any]) -> None:
    from fleet_cloud.factory.code import check_no_code

    kinds = [document["architecture"], *(one["architecture"] or {} for one in document["teachers"].values())]
    if any(part.get("kind") == "python" for part in kinds):
        raise Invalid(
            "the recipe names a Python function, which this worker does not run",
            hint="build on a machine of your own, or on a worker that was started with --allow-code",
            code="model.code",
        )
    for part, key in _places(document):
        check_no_code(Path(part[key]))


def _invalid(why: str) -> Invalid:
    return Invalid(
        f"the bundle of the build is no archive of a recipe: {why}",
        hint="queue it again: fleet build RECIPE --remote",
        code="build.bundle",
    )
