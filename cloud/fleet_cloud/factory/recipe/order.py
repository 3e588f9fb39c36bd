"""Which passes may follow which: a table of what makes no sense, with the reason. Pure."""

from collections.abc import Mapping, Sequence
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


def find_nonsense(passes: Sequence[Settings]) -> list[tuple[int, str]]:
    """Return the passes that make no sense where they stand, by their index, and why."""
    found = []
    for later, settings in enumerate(passes):
        for earlier in passes[:later]:
            if (why := find_reason(earlier, settings)) is not None:
                found.append((later, f"{name_pass(settings)} after {name_pass(earlier)}: {why}"))
                break
    return found


def find_reason(earlier: Settings, later: Settings) -> str | None:
    """Return why ``later`` makes no sense at any place after ``earlier``, or none."""
    if isinstance(earlier, PruneWeights) and isinstance(later, PruneWeights):
        more = later.sparsity > earlier.sparsity or later.pattern not in ("single", earlier.pattern)
        return None if more else "nothing is left to do: so many weights are zero already"
    return REFUSED.get((type(earlier), type(later)))
