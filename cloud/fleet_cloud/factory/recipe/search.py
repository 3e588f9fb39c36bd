"""The section ``search`` of a recipe: which passes to try, with which strengths. Imports no TensorFlow.

Passes are written as in a variant, but a value may be what to choose from: ``{from: 0.1, to: 0.7}`` (whole
numbers if both are), with ``log: true`` evenly by ratios; or ``{any: [l2, taylor]}``. A pass with
``optional: true`` may be left out.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from fleet_cloud.factory.recipe.order import Nonsense, judge_pair
from fleet_cloud.factory.recipe.passes import PassSettings, Settings, Tune, tunes_in_vain
from fleet_cloud.factory.recipe.problems import Problem, find_problems
from fleet_cloud.factory.recipe.variants import Target

Against = Literal["wire", "size", "latency"]


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``against``: what accuracy is weighed against: the bytes that travel, those of the file, or the median
    time of one inference here. It ends after ``minutes``, or when ``trials`` have been made in all."""

    passes: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1)]
    target: Target = "litert"
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


def draw_passes(search: Search, draw: Draw) -> tuple[PassSettings, ...]:
    """Return the passes of one trial; raise `ValueError` where what was drawn is no pass."""
    chosen: list[PassSettings] = []
    for number, template in enumerate(search.passes, 1):
        if template.get("optional") is not True or draw.choose(f"{_name(number, template)}?", (True, False)):
            drawn = msgspec.convert(_draw(number, template, draw), PassSettings)
            idle = tunes_in_vain(drawn)
            chosen.append(msgspec.structs.replace(drawn, tune=Tune()) if idle else drawn)
    return tuple(chosen)


def find_search_problems(search: Search, key: str = "search.passes") -> list[Problem]:
    """Return what is wrong with the passes: each must be one at both ends of everything, and those that are
    in every trial must make sense in their order."""
    problems = [
        problem
        for number, template in enumerate(search.passes, 1)
        for problem in _check_template(f"{key}[{number - 1}]", number, template)
    ]
    return problems or list(_find_nonsense(search, key))


def draw_ends(search: Search) -> Iterator[tuple[int, Settings]]:
    """Yield each pass with the first and with the last of everything, and its index. All must be passes."""
    for index, template in enumerate(search.passes):
        for settings in _draw_both(index + 1, template):
            yield index, settings


def _check_template(key: str, number: int, template: dict[str, Any]) -> list[Problem]:
    if not isinstance(template.get("optional", False), bool):
        return [Problem(f"{key}.optional", "Expected `bool`", "optional: true, or leave it out")]
    for end in (_End(0), _End(-1)):
        try:
            drawn = _draw(number, template, end)
        except ValueError as exc:
            return [Problem(key, str(exc), "{from: LOW, to: HIGH} or {any: [ONE, OTHER]}")]
        if problems := find_problems(drawn, PassSettings, key):
            return problems
    return []


def _find_nonsense(search: Search, key: str) -> Iterator[Problem]:
    """What may be left out, or depends on what is drawn, is no more than a trial without a result."""
    always: list[tuple[Settings, Settings]] = []
    for index, template in enumerate(search.passes):
        if template.get("optional") is True or not isinstance(template["pass"], str):
            continue
        later = _draw_both(index + 1, template)
        found = (_judge_ends(earlier, later, index, search.target) for earlier in always)
        if (one := next(filter(None, found), None)) is not None:
            yield Problem(f"{key}[{index}]", one.why, one.hint)
        always.append(later)


def _draw_both(number: int, template: dict[str, Any]) -> tuple[Settings, Settings]:
    """Return a pass with the first and with the last of everything."""
    first, last = (msgspec.convert(_draw(number, template, end), PassSettings) for end in (_End(0), _End(-1)))
    return first, last


def _judge_ends(
    earlier: tuple[Settings, Settings], later: tuple[Settings, Settings], index: int, target: Target
) -> Nonsense | None:
    """Return what makes no sense whatever is drawn: at both ends of both passes."""
    found = [judge_pair(one, other, index, target) for one in earlier for other in later]
    return found[0] if None not in found else None


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


def _draw(number: int, template: dict[str, Any], draw: Draw) -> Any:
    given = {key: value for key, value in template.items() if key != "optional"}
    return _fill(given, _name(number, template), draw)


def _name(number: int, template: dict[str, Any]) -> str:
    """Return what a pass is called among all that is drawn; which pass it is may be drawn, too."""
    kind = template.get("pass")
    return f"{number}-{kind}" if isinstance(kind, str) else str(number)


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
