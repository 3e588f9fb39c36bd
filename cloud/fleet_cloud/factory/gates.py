"""Gates: what a variant must hold to be released. Decided on the validation split, fail closed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleet_cloud.factory.recipe import Gates


@dataclass(frozen=True)
class Measured:
    """What is known of a variant; none: unknown. ``accuracy_drop``: below the float variant, on the same
    samples."""

    size_bytes: int
    accuracy: float | None = None
    accuracy_drop: float | None = None
    agreement: float | None = None
    latency_us: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Failure:
    """A gate that is not held: ``why`` names it, what was found, and by how much it is missed."""

    gate: str
    why: str


@dataclass(frozen=True)
class Judged:
    """A gate as it was judged, held or not; ``found`` none: unknown."""

    gate: str
    bound: float
    found: float | None
    held: bool


@dataclass(frozen=True)
class _Rule:
    """``least``: the number is the least allowed, else the most."""

    what: str
    get: Callable[[Measured], float | None]
    least: bool = False
    unit: str = ""

    def holds(self, found: float | None, bound: float) -> bool:
        """At the boundary it holds; what is unknown or no number does not."""
        if found is None:
            return False
        return found >= bound if self.least else found <= bound

    def describe(self, gate: str, found: float | None, bound: float) -> str:
        if found is None:
            return f"{self.what} is unknown, and {gate} is {self._number(bound)}"
        missed = f"{self._number(found)} is {'below' if self.least else 'above'} {gate} {self._number(bound)}"
        return f"{self.what} {missed} by {self._number(abs(found - bound))}"

    def _number(self, value: float) -> str:
        return f"{value:,.0f} {self.unit}".replace(",", " ") if self.unit else f"{value:.4f}"


_RULES: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        "accuracy_min": _Rule("validation accuracy", lambda found: found.accuracy, least=True),
        "accuracy_drop_max": _Rule("the drop of validation accuracy", lambda found: found.accuracy_drop),
        "agreement_min": _Rule("agreement with the float model", lambda found: found.agreement, least=True),
        "size_max_bytes": _Rule("the file's size", lambda found: found.size_bytes, unit="bytes"),
        "latency_max_us": _Rule("the median latency", lambda found: found.latency_us, unit="us"),
        "memory_max_bytes": _Rule("the memory it needs", lambda found: found.memory_bytes, unit="bytes"),
    }
)

OF_ACCURACY: Final = frozenset({"accuracy_min", "accuracy_drop_max", "agreement_min"})
"""Gates that a weaker compression may hold."""


def judge_gates(gates: Gates, measured: Measured) -> list[Judged]:
    """Return all gates that there are, in the order of the recipe's keys."""
    bounds = {name: getattr(gates, name) for name in gates.__struct_fields__}
    found = {name: _RULES[name].get(measured) for name in bounds}
    return [
        Judged(name, bound, found[name], _RULES[name].holds(found[name], bound))
        for name, bound in bounds.items()
        if bound is not None
    ]


def find_failures(gates: Gates, measured: Measured) -> list[Failure]:
    """Return the gates that a variant does not hold, in the order of the recipe's keys."""
    return [
        Failure(one.gate, _RULES[one.gate].describe(one.gate, one.found, one.bound))
        for one in judge_gates(gates, measured)
        if not one.held
    ]
