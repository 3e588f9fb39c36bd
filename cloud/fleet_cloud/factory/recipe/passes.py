"""Settings of the passes: what a recipe may say of each. Imports no TensorFlow.

A pass takes a network and returns a network: `fleet_cloud.factory.passes` carries them out. Each struct
here is one kind; ``pass`` names it in a recipe.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(gt=0, lt=1)]
"""A fraction that is neither nothing nor all."""
ENDS_AND_ZERO: Final = 3
Bits = Annotated[int, Meta(ge=2, le=8)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def name_pass(settings: Settings | type[Settings]) -> str:
    """Return what a recipe calls a pass: ``prune-weights``."""
    return str(settings.__struct_config__.tag)


def find_teacher(settings: Settings) -> str | None:
    """Return the name of the teacher that a pass learns from, if it does."""
    tune = getattr(settings, "tune", None)
    if not isinstance(tune, Tune) or tune.distil is None or not tune.epochs or tunes_in_vain(settings):
        return None
    return tune.distil.teacher


def tunes_in_vain(settings: Settings) -> bool:
    """Return whether a pass is told how to train, and does not."""
    if not isinstance(settings, Int8) or settings.aware:
        return False
    return settings.tune != Tune() and settings.tune.epochs > 0


def seeks_goal(settings: Settings) -> bool:
    """Return whether what a pass does depends on the gates of its variant."""
    return isinstance(settings, Int8) and settings.recover > 0


class AttentionPair(Settings, frozen=True, kw_only=True):
    """Two layers by name, whose attention maps shall be alike."""

    student: str
    teacher: str


class Distil(Settings, frozen=True, kw_only=True):
    """Learn from a teacher too. ``teacher``: a name below ``teachers`` of the recipe, or ``float``, the
    network before its first pass. ``weight`` is the share of the soft loss (lambda of Hinton's formula).
    ``attention``: the factor of attention transfer, 0 for none; ``pairs``: which layers, found where none
    are given."""

    teacher: str = "float"
    temperature: Annotated[float, Meta(ge=1, le=100)] = 4.0
    weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    attention: Annotated[float, Meta(ge=0)] = 0.0
    pairs: tuple[AttentionPair, ...] = ()


class Tune(Settings, frozen=True, kw_only=True):
    """Training after a change. ``patience``: epochs without a better validation score; none: all are
    trained and the best is kept. ``decay``: how the learning rate falls over the steps."""

    epochs: Annotated[int, Meta(ge=0, le=100_000)] = 1
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 64
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.0005
    decay: Literal["none", "cosine"] = "cosine"
    patience: Annotated[int, Meta(ge=1)] | None = None
    distil: Distil | None = None


class Train(Settings, frozen=True, kw_only=True, tag_field="pass", tag="train"):
    """Train once more, with a teacher or without."""

    tune: Tune = Tune()


class PruneWeights(Settings, frozen=True, kw_only=True, tag_field="pass", tag="prune-weights"):
    """Set the smallest weights to zero. ``sparsity``: the share of zeros in the end. ``pattern``: ``2:4``
    (at most two of four neighbours remain, sparsity 0.5), ``block`` (groups of ``block`` neighbours along
    the output channels). ``scope``: the same share in each layer; the smallest of all layers together
    (``global``), or those of them that cost their layer least (``adaptive``).
    ``begin``: where the polynomial schedule starts; with no epochs all are set at once."""

    sparsity: Share = 0.5
    pattern: Literal["single", "2:4", "block"] = "single"
    block: Annotated[int, Meta(ge=2, le=64)] = 4
    scope: Literal["layer", "global", "adaptive"] = "layer"
    begin: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    skip: tuple[str, ...] = ()
    tune: Tune = Tune()

    def __post_init__(self) -> None:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError(f"pattern 2:4 has a sparsity of 0.5, not {self.sparsity}")


class PruneFilters(Settings, frozen=True, kw_only=True, tag_field="pass", tag="prune-filters"):
    """Remove whole filters of convolutions and all that hangs on them. ``fraction``: of the operations
    (``of: operations``) or of the filters. ``multiple``: widths stay multiples of it. ``reconstruct``: what
    takes the filters that are left is solved anew, by least squares on samples, to give what it gave
    before."""

    fraction: Share = 0.3
    of: Literal["operations", "filters"] = "operations"
    score: Literal["l1", "l2", "geometric-median", "batch-norm", "taylor"] = "l2"
    scope: Literal["layer", "global"] = "layer"
    multiple: Annotated[int, Meta(ge=1, le=64)] = 8
    rounds: Annotated[int, Meta(ge=1, le=100)] = 1
    reconstruct: bool = True
    skip: tuple[str, ...] = ()
    tune: Tune = Tune()


class PruneNeurons(Settings, frozen=True, kw_only=True, tag_field="pass", tag="prune-neurons"):
    """Remove neurons of dense layers by what they do on training samples. ``reconstruct``: as for filters."""

    fraction: Share = 0.3
    score: Literal["mean-activation", "zeros"] = "mean-activation"
    multiple: Annotated[int, Meta(ge=1, le=64)] = 8
    reconstruct: bool = True
    skip: tuple[str, ...] = ()
    tune: Tune = Tune()


class LogQuantize(Settings, frozen=True, kw_only=True, tag_field="pass", tag="log-quantize"):
    """Weights become signed powers. ``range``: the mission's quantizer over the range of magnitudes;
    ``2`` and ``sqrt2``: powers of the base; ``terms``: sums of so many of them. ``keep``: layers left as
    they are (``first``, ``last``, or names)."""

    bits: Annotated[int, Meta(ge=3, le=8)] = 5
    base: Literal["range", "2", "sqrt2"] = "sqrt2"
    terms: Literal[1, 2] = 1
    keep: tuple[str, ...] = ()
    tune: Tune = Tune()

    def __post_init__(self) -> None:
        if self.base == "range" and self.terms > 1:
            raise ValueError(
                "terms: the quantizer over a range has one term; base 2 or sqrt2 has sums of two"
            )


class Cluster(Settings, frozen=True, kw_only=True, tag_field="pass", tag="cluster"):
    """Weights share the entries of a codebook. ``group``: so many neighbouring weights are one entry
    (product quantization). ``per``: one codebook for a tensor, or for each output channel. ``normalize``:
    cluster each channel in units of its largest weight, on the grid of int8, so that int8 afterwards keeps
    the number of codes. ``rate``: what a bit of an index costs, in units of the mean square of the weights:
    with more of it fewer entries do most of the work, and the indices take fewer bits; 0.001 is little.
    ``weigh``: every error counts alike, or as much as the loss minds it (no labels are needed); bits then go
    to the layers that need them. ``change``: while it trains a weight may go over to another entry (with
    ``normalize``), which costs more time and reaches fewer bits."""

    entries: Annotated[int, Meta(ge=2, le=256)] = 32
    group: Annotated[int, Meta(ge=1, le=64)] = 1
    per: Literal["tensor", "channel"] = "tensor"
    normalize: bool = False
    rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    weigh: Literal["even", "loss"] = "even"
    change: bool = False
    keep: tuple[str, ...] = ()
    tune: Tune = Tune()

    def __post_init__(self) -> None:
        single = self.normalize or self.per == "channel" or self.rate or self.weigh == "loss"
        if self.group > 1 and single:
            raise ValueError("group: normalize, per: channel, rate and weigh: loss are for single weights")
        if self.change and not self.normalize:
            raise ValueError("change: weights change over to other entries with normalize only")
        if self.normalize and self.per == "channel":
            raise ValueError("normalize: all channels have one codebook, and each a scale: leave per out")
        if self.normalize and self.entries < ENDS_AND_ZERO + 1:
            raise ValueError(
                f"normalize: -1, 0 and 1 are among the entries, and {self.entries} leaves no more"
            )


class Int8(Settings, frozen=True, kw_only=True, tag_field="pass", tag="int8"):
    """Integers of 8 bits in and out. ``aware``: train with the rounding. ``per_channel_dense``: none: as
    the target can. ``recover``: so many of the most sensitive layers may stay in float until the gates
    hold."""

    aware: bool = False
    per_channel_dense: bool | None = None
    calibration_samples: Annotated[int, Meta(ge=1, le=100_000)] = 300
    recover: Annotated[int, Meta(ge=0, le=1000)] = 0
    tune: Tune = Tune()


class Int16x8(Settings, frozen=True, kw_only=True, tag_field="pass", tag="int16x8"):
    """Activations of 16 bits, weights of 8."""

    calibration_samples: Annotated[int, Meta(ge=1, le=100_000)] = 300


class Float16(Settings, frozen=True, kw_only=True, tag_field="pass", tag="float16"):
    """Weights are kept in half precision."""


class DynamicRange(Settings, frozen=True, kw_only=True, tag_field="pass", tag="dynamic-range"):
    """Weights of 8 bits, activations in float."""


PassSettings = (
    Train
    | PruneWeights
    | PruneFilters
    | PruneNeurons
    | LogQuantize
    | Cluster
    | Int8
    | Int16x8
    | Float16
    | DynamicRange
)
