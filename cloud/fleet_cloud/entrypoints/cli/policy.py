"""``--policy NAME=VALUE``: how the devices go about an update, beyond its times."""

import math
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec
import typer

from fleet_shared.messages.desired import OverBudget, Policy, WhenTight

NAMES = tuple(name for name in Policy.__struct_fields__ if name not in ("soak_s", "deadline_s"))
HELP = f"NAME=VALUE, repeatable: {', '.join(NAMES)}."

_WORDS: Final = MappingProxyType({bool: "true or false", int: "a whole number", float: "a number"})


def read_policy(soak_s: float, deadline_s: float, settings: list[str]) -> Policy:
    """Return the policy of a command line; raise `typer.BadParameter` naming what is wrong with it."""
    values: dict[str, Any] = {"soak_s": soak_s, "deadline_s": deadline_s}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name not in NAMES:
            close = get_close_matches(name, NAMES, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(NAMES)}"
            raise typer.BadParameter(f"{name!r} is no part of the policy: {hint}")
        if not equals:
            raise typer.BadParameter(f"{setting!r} has no value: write {name}=VALUE")
        values[name] = _read(name, text)
    return Policy(**values)


def _read(name: str, text: str) -> Any:
    kind = msgspec.structs.fields(Policy)[Policy.__struct_fields__.index(name)].type
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise typer.BadParameter(f"{name}={text}: it is {_expected(kind)}") from exc
    if isinstance(value, OverBudget | WhenTight) and value.name == "UNKNOWN":
        raise typer.BadParameter(f"{name}={text}: it is {_expected(kind)}")
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no such number: it would arrive as "no bound".
        raise typer.BadParameter(f"{name}={text}: it is {_expected(kind)}")
    return value


def _expected(kind: Any) -> str:
    """Return in words what a value may be: of ``int | None`` a whole number, or null."""
    kinds = [one for one in (get_args(kind) or (kind,)) if one is not type(None)]
    words = _WORDS.get(kinds[0]) or "one of " + ", ".join(
        member.value for member in kinds[0] if member.name != "UNKNOWN"
    )
    return f"{words}, or null for no bound" if type(None) in get_args(kind) else words
