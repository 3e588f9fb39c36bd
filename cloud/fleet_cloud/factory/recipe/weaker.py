"""Backing off: which pass to weaken when a variant does not hold its accuracy, and how. Pure."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from fleet_cloud.factory.recipe.passes import (
    Cluster,
    LogQuantize,
    PruneFilters,
    PruneNeurons,
    PruneWeights,
    Settings,
    name_pass,
)

SHRINK: Final = 0.75
"""A fraction becomes this much of itself."""
FRACTION_MIN: Final = 0.01
"""Below it a pass that removes has nothing to do."""
BITS_MAX: Final = 8
ENTRIES_MAX: Final = 256
RATE_MIN: Final = 0.001
"""A bit that costs less changes nothing."""


def weaken(settings: Settings) -> Settings | None:
    """Return the pass with less strength: a smaller fraction, more bits, more entries; none when it has no
    strength, or none left."""
    weaker = _WEAKER.get(type(settings))
    return None if weaker is None else weaker(settings)


def get_strength(settings: Settings) -> str:
    """Return how strong a pass is, in its own measure; empty for one that has no strength."""
    name = _STRENGTH.get(type(settings))
    return "" if name is None else f"{getattr(settings, name):g}"


def describe_passes(passes: Sequence[Settings]) -> str:
    """Return passes in one line, each with the strength that it has: ``prune-weights 0.5, int8``."""
    return ", ".join(f"{name_pass(one)} {get_strength(one)}".rstrip() for one in passes)


def describe_change(before: Settings, after: Settings) -> str:
    """Return what was changed: ``sparsity 0.5 -> 0.375``."""
    changed = [
        f"{name} {getattr(before, name)} -> {getattr(after, name)}"
        for name in before.__struct_fields__
        if getattr(before, name) != getattr(after, name)
    ]
    return ", ".join(changed)


def choose_weaker(passes: Sequence[Settings], drops: Sequence[float | None]) -> tuple[int, Settings] | None:
    """Return which pass to weaken, and its new settings; none when there is nothing left to weaken.

    ``drops``: what each pass cost, none where it is unknown. The one that cost most is weakened; with equal
    or unknown costs the later one, for less has to be made again.
    """
    found = [(index, weaker) for index, one in enumerate(passes) if (weaker := weaken(one)) is not None]
    if not found:
        return None

    def cost(candidate: tuple[int, Settings]) -> tuple[float, int]:
        drop = drops[candidate[0]]
        return (0.0 if drop is None else drop, candidate[0])

    return max(found, key=cost)


def _shrink(name: str) -> Callable[[Any], Settings | None]:
    def weaker(settings: Any) -> Settings | None:
        fraction = round(getattr(settings, name) * SHRINK, 4)
        return None if fraction < FRACTION_MIN else msgspec.structs.replace(settings, **{name: fraction})

    return weaker


def _prune_weights(settings: PruneWeights) -> Settings | None:
    """A pattern of 2:4 has one sparsity only."""
    return None if settings.pattern == "2:4" else _shrink("sparsity")(settings)


def _log_quantize(settings: LogQuantize) -> Settings | None:
    if settings.bits == BITS_MAX:
        return None
    return msgspec.structs.replace(settings, bits=settings.bits + 1)


def _cluster(settings: Cluster) -> Settings | None:
    """Twice the entries, and bits at half their price: where they have one, more entries change little."""
    if settings.entries == ENTRIES_MAX and not settings.rate:
        return None
    rate = settings.rate / 2 if settings.rate / 2 >= RATE_MIN else 0.0
    return msgspec.structs.replace(settings, entries=min(ENTRIES_MAX, 2 * settings.entries), rate=rate)


_STRENGTH: Final[Mapping[type[Settings], str]] = MappingProxyType(
    {
        PruneWeights: "sparsity",
        PruneFilters: "fraction",
        PruneNeurons: "fraction",
        LogQuantize: "bits",
        Cluster: "entries",
    }
)
_WEAKER: Final[Mapping[type[Settings], Callable[[Any], Settings | None]]] = MappingProxyType(
    {
        PruneWeights: _prune_weights,
        PruneFilters: _shrink("fraction"),
        PruneNeurons: _shrink("fraction"),
        LogQuantize: _log_quantize,
        Cluster: _cluster,
    }
)
