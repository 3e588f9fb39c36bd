"""Numbers on the command line: what is out of reason is wrong usage, refused before anything is done."""

import math
from typing import Final

import typer

MINUTES_MAX: Final = 10 * 366 * 24 * 60.0
TOKEN_HOURS_MAX: Final = 365 * 24.0
SOAK_S_MAX: Final = 24 * 3600.0
DEADLINE_S_MAX: Final = 30 * 24 * 3600.0


def check_finite(value: float | None) -> float | None:
    """Refuse NaN and infinity: a NaN passes every bound."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def check_scale(value: float | None) -> float | None:
    if value == 0:
        raise typer.BadParameter("a scale of 0 would make all inputs alike")
    return check_finite(value)


def check_numbers(text: str | None) -> str | None:
    """Refuse what is no list of finite numbers, such as ``0.5`` or ``0.485,0.456,0.406``."""
    if text is not None:
        for part in text.split(","):
            _read_number(part)
    return text


def check_positive_numbers(text: str | None) -> str | None:
    if text is not None and not all(_read_number(part) > 0 for part in text.split(",")):
        raise typer.BadParameter(f"{text} has a number that is not above 0")
    return text


def _read_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not a number") from exc
    check_finite(number)
    return number
