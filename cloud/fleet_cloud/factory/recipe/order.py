"""Which passes may follow which: a table of what makes no sense, with the reason. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleet_cloud.factory.recipe.passes import (
    Cluster,
    DynamicRange,
    Float16,
    Int8,
    Int16x8,
    LogQuantize,
    PruneFilters,
    PruneNeurons,
    PruneWeights,
    Settings,
    Train,
    name_pass,
)
from fleet_cloud.factory.recipe.targets import has_dense_per_tensor
from fleet_cloud.factory.recipe.variants import Target

Kind = type[Settings]

FORMATS: Final[tuple[Kind, ...]] = (Int8, Int16x8, Float16, DynamicRange)
"""They say how the numbers of the file are kept."""
REMOVING: Final[tuple[Kind, ...]] = (PruneFilters, PruneNeurons)
_INTEGERS: Final[tuple[Kind, ...]] = (Int8, Int16x8, DynamicRange)
_OTHERS: Final[tuple[Kind, ...]] = (Train, PruneWeights, *REMOVING, LogQuantize, Cluster)


def _pairs(first: Sequence[Kind], second: Sequence[Kind], why: str) -> dict[tuple[Kind, Kind], str]:
    return {(one, other): why for one in first for other in second}


REFUSED: Final[Mapping[tuple[Kind, Kind], str]] = MappingProxyType(
    _pairs(FORMATS, FORMATS, "a file has one number format")
    | _pairs(FORMATS, _OTHERS, "the number format of the file is chosen last")
    | _pairs((PruneWeights,), REMOVING, "the zeros would be counted among what is removed: remove first")
    | _pairs((LogQuantize, Cluster), REMOVING, "the values were chosen for the whole: remove first")
    | _pairs((LogQuantize, Cluster), (PruneWeights,), "the values have no zero: prune first, zeros stay")
    | _pairs((Cluster,), (LogQuantize,), "weights have the entries of a codebook or powers, not both")
    | _pairs((LogQuantize,), (Cluster,), "weights have powers or the entries of a codebook, not both")
    | _pairs((LogQuantize,), (LogQuantize,), "the weights are powers already")
    | _pairs((Cluster,), (Cluster,), "the weights have a codebook already")
    | _pairs((LogQuantize,), _INTEGERS, "the powers would be rounded to equal steps, and lost")
)  # fmt: skip
"""By the earlier and the later pass, whatever stands between them."""


OTHER_STEPS: Final = "each channel rounds the entries in its own way, and the codes are more than the entries"
ONE_SCALE: Final = "with one scale for all outputs of a dense layer, its codes are more than the entries"


@dataclass(frozen=True)
class Nonsense:
    """A pass, by its ``index``, that makes no sense where it stands."""

    index: int
    why: str
    hint: str


def find_nonsense(passes: Sequence[Settings], target: Target = "litert") -> list[Nonsense]:
    """Return the passes that make no sense where they stand, each once."""
    found = []
    for index, later in enumerate(passes):
        for earlier in passes[:index]:
            if (one := judge_pair(earlier, later, index, target)) is not None:
                found.append(one)
                break
    return found


def judge_pair(earlier: Settings, later: Settings, index: int, target: Target = "litert") -> Nonsense | None:
    """Return why ``later``, which is at ``index``, makes no sense at any place after ``earlier``, or none."""
    hint = "change the order, or leave one of the two out"
    why = REFUSED.get((type(earlier), type(later)))
    if isinstance(earlier, PruneWeights) and isinstance(later, PruneWeights):
        more = later.sparsity > earlier.sparsity or later.pattern not in ("single", earlier.pattern)
        why = None if more else "nothing is left to do: so many weights are zero already"
    elif isinstance(earlier, Cluster) and not _fits_integers(earlier) and isinstance(later, _INTEGERS):
        why = OTHER_STEPS
        hint = "normalize: true (without group) clusters on the grid of int8; or keep the weights in float"
    elif isinstance(earlier, Cluster) and has_dense_per_tensor(later, target):
        why, hint = ONE_SCALE, _avoid_one_scale(later)
    if why is None:
        return None
    return Nonsense(index, f"{name_pass(later)} after {name_pass(earlier)}: {why}", hint)


def _fits_integers(cluster: Cluster) -> bool:
    """Whether rounding each channel by its own scale leaves no more values than entries."""
    return cluster.normalize or cluster.per == "channel"


def _avoid_one_scale(later: Settings) -> str:
    if isinstance(later, Int8):
        return "leave per_channel_dense out: every target has a scale for each output then"
    return "int8 has a scale for each output on this target too"
