"""What a result depends on, as a key by which it can be found again. Imports no TensorFlow.

A key is the digest of all that goes in: the code, the libraries, the kind of processor, the samples, the
settings, and the key of what it was made from. So two builds share what they have in common, and what has
changed in the least is made anew.
"""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from fleet_cloud.factory.data import Splits
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.recipe.passes import Settings

LIBRARIES: Final = (
    "tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy", "fleet-cloud",
)  # fmt: skip


def make_key(*parts: Any) -> str:
    """Return the digest of ``parts``: built-in types and structs."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def make_training_key(splits_digest: str, architecture: Architecture, training: Training) -> str:
    """Return the key of a network that is trained from nothing but samples."""
    return make_key("training", describe_machinery(), splits_digest, _by_content(architecture), training)


def make_file_key(splits_digest: str, content_digest: str) -> str:
    """Return the key of a network that is read from a file."""
    return make_key("file", describe_machinery(), splits_digest, content_digest)


def make_pass_key(
    before: str, settings: Settings, teacher: str | None = None, goal: float | None = None
) -> str:
    """Return the key of what a pass makes of the network of key ``before``. ``teacher``: the key of the one
    that it learns from; ``goal``: the score that it must keep, where it looks at that."""
    return make_key("pass", before, settings, teacher, goal)


def _by_content(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture with what its files hold in place of where they are."""
    given = {name: getattr(architecture, name) for name in architecture.__struct_fields__}
    return {name: digest_file(Path(value)) if _is_file(value) else value for name, value in given.items()}


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute() and Path(value).exists()


@cache
def digest_code() -> str:
    """Return the digest of all source files of the factory, by their names below it."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def find_libraries() -> dict[str, str]:
    """Return the versions of what the factory computes with, of those that are there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_machinery() -> Mapping[str, Any]:
    """Return what computes: the same numbers come out only where all of it is the same."""
    return {"code": digest_code(), "libraries": find_libraries(), "machine": platform.machine()}


def digest_splits(splits: Splits) -> str:
    """Return the digest of the samples in the order in which training sees them."""
    digest = hashlib.sha256()
    for part in (splits.train, splits.validation):
        for array in (part.x, part.y):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}\0".encode())
                digest.update(np.ascontiguousarray(array).data)
    said = (splits.labels, splits.preprocessing, splits.task, splits.augment)
    digest.update(msgspec.json.encode(said))
    return digest.hexdigest()


def digest_content(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file, or of a folder with all that is in it, by name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in sorted(one for one in path.rglob("*") if one.is_file()):
        digest.update(f"{file_path.relative_to(path).as_posix()} {digest_file(file_path)}\n".encode())
    return digest.hexdigest()
