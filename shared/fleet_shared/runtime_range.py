"""The range of a runtime's versions that a contract asks for: ``>=2.14``, or empty for any.

It fails closed: what is not exactly this form is refused, never read as "any".
"""

import re
from typing import Final

_RANGE: Final = re.compile(r">=([0-9]{1,9}(?:\.[0-9]{1,9}){0,5})")

Numbers = tuple[int, ...]


def parse_range(text: str) -> Numbers:
    """Return the lowest version that is good enough, empty for any; raise `ValueError`."""
    if not text:
        return ()
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range of versions: expected '>=2.14', or nothing for any")
    return tuple(int(word) for word in match[1].split("."))


def parse_runtime_version(text: str) -> Numbers:
    """Return the leading numbers of a version: ``2.14.0.post1`` gives (2, 14, 0)."""
    numbers = []
    for word in text.strip().split("."):
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            break
        numbers.append(int(word))
    return tuple(numbers)


def is_at_least(version: Numbers, lowest: Numbers) -> bool:
    """Compare as numbers, missing ones being 0: 2.14 is at least 2.14.0. A version without any
    numbers is at least nothing but the empty range."""
    if not version:
        return not lowest
    size = max(len(version), len(lowest))
    return _padded(version, size) >= _padded(lowest, size)


def _padded(numbers: Numbers, size: int) -> Numbers:
    return numbers + (0,) * (size - len(numbers))
