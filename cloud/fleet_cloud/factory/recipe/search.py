"""The section ``search`` of a recipe: which passes to try, with which strengths. Imports no TensorFlow.

Passes are written as in a variant, but a value may be what to choose from: ``{from: 0.1, to: 0.7}`` (whole
numbers if both are), with ``log: true`` evenly by ratios; or ``{any: [l2, taylor]}``. A pass with
``optional: true`` may be left out.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from fleet_cloud.factory.recipe.passes import PassSettings, Settings

Against = Literal["wire", "size", "latency"]


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``against``: what accuracy is weighed against: the bytes that travel, those of the file, or the median
    time of one inference here. It ends after ``minutes``, or when ``trials`` have been made in all."""

    passes: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1)]
    against: Against = "wire"
    minutes: Annotated[float, Meta(gt=0, le=100_000)] = 30
    trials: Annotated[int, Meta(ge=1, le=100_000)] = 50


class Draw(Protocol):
    """Chooses values; each has a name that is the same in every trial."""

    def choose(self, name: str, options: Sequence[Any], /) -> Any: ...

    def between(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        """Return a whole number if both ends are."""


class _Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    low: int | float = msgspec.field(name="from")
    high: int | float = msgspec.field(name="to")
    log: bool = False


class _Any(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    options: Annotated[list[bool | int | float | str | None], Meta(min_length=1)] = msgspec.field(name="any")


def draw_passes(search: Search, draw: Draw) -> tuple[Settings, ...]:
    """Return the passes of one trial; raise `ValueError` where what was drawn is no pass."""
    chosen: list[Any] = []
    for number, template in enumerate(search.passes, 1):
        name = f"{number}-{template.get('pass')}"
        given = {key: value for key, value in template.items() if key != "optional"}
        if template.get("optional") is True and not draw.choose(f"{name}?", (True, False)):
            continue
        chosen.append(msgspec.convert(_fill(given, name, draw), PassSettings))
    return tuple(chosen)


def find_fault(search: Search) -> str | None:
    """Return what is wrong with the section: it must give passes at both ends of everything."""
    try:
        draw_passes(search, _End(0))
        draw_passes(search, _End(-1))
    except ValueError as exc:
        return str(exc)
    return None


class _End:
    """Draws the first or the last of everything; what is optional is there."""

    def __init__(self, index: Literal[0, -1]) -> None:
        self._index = index

    def choose(self, name: str, options: Sequence[Any], /) -> Any:
        return True if name.endswith("?") else options[self._index]

    def between(self, _name: str, low: float, high: float, /, *, log: bool) -> float:
        if not low < high or (log and low <= 0):
            raise ValueError(f"from {low} to {high} is no range")
        return (low, high)[self._index]


def _fill(value: Any, name: str, draw: Draw) -> Any:
    """Return the value with all that is to be chosen chosen."""
    if isinstance(value, list):
        return [_fill(one, f"{name}.{index}", draw) for index, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "from" in value or "to" in value:
        span = msgspec.convert(value, _Range)
        return draw.between(name, span.low, span.high, log=span.log)
    if "any" in value:
        return draw.choose(name, msgspec.convert(value, _Any).options)
    return {key: _fill(one, f"{name}.{key}", draw) for key, one in value.items()}
