"""What a recipe may say of the data set. Imports no TensorFlow."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

SplitFraction = Annotated[float, Meta(gt=0, lt=1)]
Share = Annotated[float, Meta(ge=0, le=1)]

_ALWAYS: Final = frozenset({"kind"})
_SPLIT: Final = frozenset({"path", "task", "labels", "validation_fraction", "test_fraction"})
_REAL: Final = frozenset({"scale", "offset", "mean", "std"})
_PIXELS: Final = frozenset({"image_size", "resize", "fit", "pad", "colour"})
_KEYS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "digits": frozenset({"validation_fraction", "test_fraction", "augment"}),
        "images": _SPLIT | _PIXELS | _REAL | {"skip_max", "augment"},
        "npz": _SPLIT | _REAL | {"augment"},
        "csv": _SPLIT | {"target", "ignore"},
        "none": _REAL | {"input", "colour", "task"},
    }
)


class Augment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How training samples are changed at random, another way each time. ``shift``: at most so much of
    height and width; ``crop_padding``: at most so many pixels; ``zoom``: a factor of at most 1 + zoom, in
    or out; ``brightness`` and ``noise`` (its standard deviation) are shares of the range of values,
    ``contrast`` of the distance from an image's mean. What comes in from outside repeats the edge."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    shift: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    crop_padding: Annotated[int, Meta(ge=0, le=64)] = 0
    rotate_degrees: Annotated[float, Meta(ge=0, le=180)] = 0.0
    zoom: Annotated[float, Meta(ge=0, le=1)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0


class Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``kind``: ``digits`` (scikit-learn's, built in), ``images`` (folder or archive of
    CLASS/image files), ``npz`` (arrays x and y), ``csv`` (a table of numbers with a header), or ``none``
    (nothing but the shape of a sample, ``input``: for a model that is trained already).

    ``task``: classes to tell apart, or values to fit; without labels it says what a model of the user's own
    gives. ``labels: none``: samples of which nobody says what they are; they serve for calibration and for
    comparing models. ``target``: the table's column that is to be found from the others, but for those
    that are ``ignore``d. Fractions are of all samples. ``resize``, ``fit``, ``pad`` and ``colour`` say how
    an image gets its form, ``scale``, ``offset``, ``mean`` and ``std`` how values become the model's input,
    (value * scale + offset - mean) / std, here and on the device. ``skip_max``: so many images that cannot
    be read are left out and named; one more ends the build."""

    kind: Literal["digits", "images", "npz", "csv", "none"] = "digits"
    path: str | None = None
    task: Literal["classification", "regression"] = "classification"
    labels: Literal["given", "none"] = "given"
    target: str | None = None
    ignore: tuple[str, ...] = ()
    input: Annotated[tuple[Annotated[int, Meta(ge=1, le=65_536)], ...], Meta(max_length=3)] = ()
    image_size: Annotated[int, Meta(ge=4, le=1024)] = 32
    resize: Literal["nearest", "bilinear", "bicubic", "area"] = "bicubic"
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    pad: Annotated[int, Meta(ge=0, le=255)] = 0
    colour: Literal["rgb", "bgr", "grey"] | None = None
    scale: float | None = None
    offset: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Meta(gt=0)], ...] = ()
    skip_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    validation_fraction: SplitFraction = 0.15
    test_fraction: SplitFraction = 0.2
    augment: Augment | None = None


def find_dataset_fault(dataset: Dataset) -> tuple[str, str] | None:
    """Return what is wrong with a data set whose types and bounds are right, and what would help."""
    kind, known = dataset.kind, _KEYS[dataset.kind] | _ALWAYS
    plain = Dataset(kind=kind)
    for key in Dataset.__struct_fields__:
        if key not in known and getattr(dataset, key) != getattr(plain, key):
            return _explain(kind, key), f"its keys are {', '.join(sorted(known))}"
    for key, given, example in (
        ("path", dataset.path, "FILE"),
        ("target", dataset.target or dataset.labels == "none", "COLUMN"),
        ("input", dataset.input, "[96, 96, 3]"),
    ):
        if key in known and not given:
            return f"{key} is needed for kind {kind!r}", f"{key}: {example}"
    if dataset.task == "regression" and kind == "images" and dataset.labels == "given":
        return "a folder of images has classes, not values", "kind: npz, with the values in y"
    if dataset.validation_fraction + dataset.test_fraction >= 1:
        return (
            "validation_fraction and test_fraction leave nothing to train on",
            "their sum must be below 1",
        )
    return None


def _explain(kind: str, key: str) -> str:
    if kind == "digits" and key == "path":
        return "path means nothing for the built-in digits"
    return f"{key} means nothing for kind {kind!r}"
