"""Arrays as they lie in an ``.npz``: read, and checked for what no later step could bear.

One message for each thing that can be wrong. What is read here is data, never code: no pickles.
"""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid

Array = NDArray[Any]

ZIP_MAGIC: Final = b"PK"
_DAMAGE: Final = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    RuntimeError,  # an encrypted archive, an unknown compression
    MemoryError,  # a header that claims more than there is
    zlib.error,
    zipfile.BadZipFile,
)


def read_arrays(path: Path, code: str) -> dict[str, Array]:
    """Return all arrays of an ``.npz``; raise `Invalid` with ``code`` when it is not one."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise Invalid(f"{path} cannot be read: {exc.strerror}", hint="check the path", code=code) from exc
    if not content.startswith(ZIP_MAGIC):
        raise Invalid(f"{path} is not an .npz file", hint="write it with numpy.savez", code=code)
    found: dict[str, Array] = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            for name in archive.files:
                found[name] = np.asarray(archive[name])
    except _DAMAGE as exc:
        why = "it holds Python objects" if "allow_pickle" in str(exc) else str(exc).partition("\n")[0]
        raise Invalid(
            f"{path} cannot be read as an .npz: {why}",
            hint="write numbers and text with numpy.savez",
            code=code,
        ) from exc
    return found


def find_bad_row(x: Array) -> int | None:
    """Return the first sample with a value that is not finite, or none."""
    if x.dtype.kind != "f":
        return None
    rows = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    return int(rows[0]) if len(rows) else None


def check_finite(x: Array, name: str, path: Path, code: str) -> None:
    """Raise `Invalid` with ``code``, naming array and row, when a value is NaN or infinite."""
    if (row := find_bad_row(x)) is not None:
        raise Invalid(
            f"{name}[{row}] in {path} has a value that is not a finite number",
            hint="remove the sample, or fill in what is missing",
            code=code,
        )
