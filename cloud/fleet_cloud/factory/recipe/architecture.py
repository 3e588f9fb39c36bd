"""What a recipe may say of the architecture. Imports no TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

Kind = Literal["small-cnn", "mlp", "ds-cnn", "resnet", "mobilenet-v2", "file", "python"]

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "small-cnn": {"units": 16},
        "mlp": {"units": 16},
        "ds-cnn": {"units": 64, "depth": 4},
        "resnet": {"units": 16, "depth": 8},
        "mobilenet-v2": {"width": 0.35, "weights": None},
        "file": {"path": None},
        "python": {"path": None, "function": None},
    }
)
"""The keys of each kind, besides ``kind``, and what they are when they are not given."""

OWN: Final = frozenset({"file", "python"})
"""Kinds that are the user's own model."""

KERAS_SUFFIXES: Final = frozenset({".keras", ".h5", ".hdf5"})
"""Files whose layers are known."""

DEPTH_MAX: Final = 56


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``units``: width of the first layer; later ones are multiples. ``depth``: of a ``resnet`` its layers
    (6n + 2, 8 to 56), of a ``ds-cnn`` its separable convolutions. ``width``: factor of a
    ``mobilenet-v2``'s filters; ``weights``: a file of them. ``path``: of a model (``.keras``, ``.h5``, the
    folder of a SavedModel, a float ``.tflite``), or of a Python file with ``function``, which takes the
    shape of a sample and the number of outputs and returns a Keras model."""

    kind: Kind = "small-cnn"
    units: Annotated[int, Meta(ge=1, le=1024)] | None = None
    depth: Annotated[int, Meta(ge=1, le=DEPTH_MAX)] | None = None
    width: Annotated[float, Meta(ge=0.1, le=2)] | None = None
    weights: str | None = None
    path: str | None = None
    function: str | None = None

    def get(self, key: str) -> Any:
        """Return what was given for ``key``, or else its default for this kind."""
        given = getattr(self, key)
        return DEFAULTS[self.kind][key] if given is None else given


def has_layers(architecture: Architecture) -> bool:
    """Tell whether passes can work on layers; other files are only converted."""
    return architecture.kind != "file" or Path(architecture.path or "").suffix.lower() in KERAS_SUFFIXES


def find_fault(architecture: Architecture) -> tuple[str, str] | None:
    """Return what is wrong with an architecture whose types and bounds are right, and what would help."""
    known = DEFAULTS[architecture.kind]
    given = [key for key in architecture.__struct_fields__[1:] if getattr(architecture, key) is not None]
    for key in given:
        if key not in known:
            return (
                f"architecture.{key} means nothing for kind {architecture.kind!r}",
                f"its keys are {', '.join(known)}",
            )
    if architecture.kind == "resnet" and (
        architecture.get("depth") < 8 or architecture.get("depth") % 6 != 2
    ):
        return (
            f"architecture.depth: a resnet has no depth of {architecture.depth}",
            "8, 14, 20, 26, ... or 56",
        )
    for key in {"path", "function"} & set(known):
        if key not in given:
            return f"{key} is needed for kind {architecture.kind!r}", f"{key}: {key.upper()}"
    return None
