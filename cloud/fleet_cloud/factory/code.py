"""Models that carry code: told from others by their first bytes, and refused before anything opens them.

A pickle runs whatever it names when it is loaded; a Keras file may hold Python functions (Lambda layers), a
SavedModel any graph that reads and writes files. On a worker that builds for many people that would be
somebody's code with everybody's rights. Fleet runs none of it: what is refused here can be converted to
``.tflite``, which holds operators and numbers only, by whoever trusts it, on a machine of his own.
"""

import io
import zipfile
from pathlib import Path
from typing import Final

from fleet_cloud.errors import Invalid

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_HDF5_BLOCK_BYTES: Final = 512
"""A file may begin with a block of the user's, of this size or of this size doubled any number of times."""
_PICKLE_PROTOCOLS: Final = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_OLD_PICKLES: Final = (b"(lp", b"(dp", b"ccopy_reg", b"c__builtin__", b"cos\n", b"cposix\n")


def check_no_code(path: Path) -> None:
    """Raise `Invalid` (``model.code``) for a file or folder that may hold code; what cannot be read is left
    to whoever reads it."""
    if (kind := _find_kind(path)) is not None:
        raise Invalid(
            f"{path} is {kind}: it can hold code, which is never run here",
            hint="convert it to .tflite on a machine of your own, and import that",
            code="model.code",
        )


def _find_kind(path: Path) -> str | None:
    if path.is_dir():
        known = (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file()
        return "a TensorFlow SavedModel" if known else None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if content.startswith((*_PICKLE_PROTOCOLS, *_OLD_PICKLES)):
        return "a pickle"
    if _is_hdf5(content):
        return "a Keras model in HDF5"
    return _find_in_archive(content)  # whatever stands before it: an archive is found from its end


def _is_hdf5(content: bytes) -> bool:
    at = 0
    while at < len(content):
        if content.startswith(_HDF5, at):
            return True
        at = max(_HDF5_BLOCK_BYTES, 2 * at)
    return False


def _find_in_archive(content: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            paths = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
    names = {Path(path).name for path in paths}
    if names & {"saved_model.pb", "saved_model.pbtxt"}:
        return "an archive with a TensorFlow SavedModel"
    if any(name.endswith((".pkl", ".pickle")) for name in names):
        return "an archive with a pickle (as PyTorch writes them)"
    if "config.json" in paths:  # Keras makes the layers from it, whether weights follow or not
        return "a Keras model"
    return None
