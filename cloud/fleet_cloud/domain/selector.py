"""Selectors: which devices an operator means. ``site=berlin,hw in (rpi4,rpi5),!retired``.

Requirements are joined by commas and all must hold. The forms: ``key=value``, ``key!=value``,
``key in (a,b)``, ``key notin (a,b)``, ``key`` (is set), ``!key`` (is not set), ``id=NAME`` for
one device, and ``all``. A key that starts with ``fact.`` is what the device says of itself.
As with Kubernetes, ``!=`` and ``notin`` also match a device that lacks the key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from fleet_cloud.errors import InvalidSelector


class Operator(StrEnum):
    IN = "in"
    NOT_IN = "notin"
    SET = "set"
    NOT_SET = "not set"


@dataclass(frozen=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds_for(self, attributes: Mapping[str, str]) -> bool:
        value = attributes.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.SET:
                return value is not None
            case Operator.NOT_SET:
                return value is None
            case _ as never:
                assert_never(never)


@dataclass(frozen=True)
class Selector:
    """A parsed selector; no requirement at all means every device."""

    text: str
    requirements: tuple[Requirement, ...]

    def __str__(self) -> str:
        return self.text

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Tell whether a device with these labels, facts and ``id`` is meant."""
        return all(requirement.holds_for(attributes) for requirement in self.requirements)


CHARS_MAX: Final = 4096

_KEY = r"(?P<key>[A-Za-z0-9][A-Za-z0-9_./-]*)"
_VALUE = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_EQUAL = re.compile(rf"{_KEY}\s*(?P<operator>==?|!=)\s*(?P<value>{_VALUE})")
_SET = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\(\s*(?P<values>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)")
_EXISTS = re.compile(rf"(?P<bang>!?)\s*{_KEY}")
_COMMA = re.compile(r",(?![^(]*\))")


def parse_selector(text: str) -> Selector:
    """Return the selector written as ``text``, or raise `InvalidSelector` naming the bad part."""
    stripped = text.strip()
    if len(stripped) > CHARS_MAX:
        raise InvalidSelector(
            f"the selector has {len(stripped)} characters, at most {CHARS_MAX} are allowed",
            hint="give the devices a label of their own, and select that",
        )
    if stripped == "all":
        return Selector(stripped, ())
    return Selector(stripped, tuple(_parse_requirement(part) for part in _COMMA.split(stripped)))


def _parse_requirement(part: str) -> Requirement:
    part = part.strip()
    if match := _EQUAL.fullmatch(part):
        operator = Operator.NOT_IN if match["operator"] == "!=" else Operator.IN
        return Requirement(match["key"], operator, frozenset({match["value"]}))
    if match := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], Operator(match["operator"]), values)
    if match := _EXISTS.fullmatch(part):
        return Requirement(match["key"], Operator.NOT_SET if match["bang"] else Operator.SET)
    raise InvalidSelector(
        f"selector part {part!r} does not parse",
        hint="write requirements joined by commas: site=berlin,hw in (rpi4,rpi5),!retired; "
        "or id=NAME, or all",
    )
