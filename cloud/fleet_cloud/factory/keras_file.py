"""Keras models as bytes, the same bytes for the same model: Keras writes the time into them."""

import io
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final

import keras

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_METADATA: Final = "metadata.json"
_DATED: Final = "date_saved"


def write_keras(model: Any) -> bytes:
    """Return the model as a ``.keras`` file."""
    with tempfile.TemporaryDirectory(prefix="fleet-keras-") as folder:
        path = Path(folder) / "model.keras"
        with warnings.catch_warnings():
            # Keras copies variables in a way that numpy 2 means to change.
            warnings.simplefilter("ignore", DeprecationWarning)
            keras.saving.save_model(model, path)
        return _without_dates(path.read_bytes())


def read_keras(content: bytes) -> Any:
    """Return the model of a ``.keras`` or ``.h5`` file; raises what Keras raises for what is none. Nothing
    that runs code is loaded."""
    with tempfile.TemporaryDirectory(prefix="fleet-keras-") as folder:
        path = Path(folder) / ("model.h5" if content.startswith(_HDF5) else "model.keras")
        path.write_bytes(content)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _without_dates(content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(written, "w") as target:
        for name in sorted(source.namelist()):
            part = source.read(name)
            if name == _METADATA:
                known = json.loads(part)
                part = json.dumps({key: known[key] for key in sorted(known) if key != _DATED}).encode()
            target.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return written.getvalue()
