"""The plain bytes."""

from collections.abc import Iterable, Iterator


def decode(parts: Iterable[bytes]) -> Iterator[bytes]:
    return iter(parts)
