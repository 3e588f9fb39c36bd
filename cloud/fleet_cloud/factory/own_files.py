"""Files without layers that passes could work on: a float ``.tflite``, or a SavedModel, which becomes one."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.canonical import canonicalise

SIGNATURE = "serving_default"


def load_own_file(path: Path, *, allow_code: bool = False) -> bytes:
    """Return a model as a ``.tflite`` file with a batch of one: a file as it is, what is converted in its
    canonical form.

    A SavedModel may hold any graph, also one that reads and writes files: it is not loaded unless
    ``allow_code``. Raises `Invalid` (``model.code``, ``model.file.unloadable``).
    """
    if not path.is_dir():
        try:
            return path.read_bytes()
        except OSError as exc:
            raise _refuse(f"{path} cannot be read: {exc.strerror}") from exc
    if not allow_code:
        raise Invalid(
            f"{path} is a SavedModel, which can hold code: it is not loaded unless that is allowed",
            hint="build on a machine of your own and allow it there, or convert it to .tflite",
            code="model.code",
        )
    try:
        return _convert(path)
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise _refuse(f"{path} cannot be converted: {str(exc).partition(chr(10))[0]}") from exc


def _convert(path: Path) -> bytes:
    loaded = tf.saved_model.load(str(path))
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f"it has the signatures {sorted(loaded.signatures)}, and {SIGNATURE} is needed")
    signature = loaded.signatures[SIGNATURE]
    given: dict[str, Any] = signature.structured_input_signature[1]
    if len(given) != 1:
        raise ValueError(f"it takes {len(given)} inputs, and one is needed")
    ((name, spec),) = given.items()
    one = tf.TensorSpec((1, *spec.shape[1:]), spec.dtype, name="input")
    function = tf.function(lambda x: signature(**{name: x}), input_signature=[one])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], loaded)
    return canonicalise(bytes(converter.convert()))


def _refuse(message: str) -> Invalid:
    return Invalid(message, hint="a float .tflite file, or a SavedModel", code="model.file.unloadable")
