"""What one check found: a verdict, plain words, and what to do."""

from collections.abc import Callable
from enum import Enum

import msgspec


class Verdict(str, Enum):
    """``ATTENTION``: the device does its work, somebody should look. ``SKIPPED``: it could not be told, or
    does not apply here."""

    OK = "ok"
    ATTENTION = "attention"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    check: str
    verdict: Verdict
    message: str
    hint: str = ""


class Found(msgspec.Struct, frozen=True):
    """A finding before it has the name of its check."""

    verdict: Verdict
    message: str
    hint: str = ""


Check = Callable[[], Found]


def ok(message: str) -> Found:
    return Found(Verdict.OK, message)


def attention(message: str, hint: str) -> Found:
    return Found(Verdict.ATTENTION, message, hint)


def failed(message: str, hint: str) -> Found:
    return Found(Verdict.FAILED, message, hint)


def skipped(message: str) -> Found:
    return Found(Verdict.SKIPPED, message)
