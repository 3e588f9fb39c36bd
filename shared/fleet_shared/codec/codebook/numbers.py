"""Whole numbers as bytes, seven bits each, low ones first; and a reader that trusts no length."""

from collections.abc import Iterable
from typing import Final

from fleet_shared.errors import CodecError

NUMBER_BYTES: Final = 5
"""No number here needs more than 35 bits."""


def write_number(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Takes exactly what is asked for from parts of any size. Raises `CodecError` where they end early."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._part: bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes, in a time that follows from their number alone."""
        pieces, missing = [], count
        while missing:
            if self._at == len(self._part):
                self._part, self._at = self._next(), 0
            piece = self._part[self._at : self._at + missing]
            self._at += len(piece)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    @property
    def left(self) -> int:
        """What is left of the part that is at hand."""
        return len(self._part) - self._at

    def number(self, most: int) -> int:
        """Return the next number, at most ``most``."""
        number = 0
        for place in range(NUMBER_BYTES):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if number > most:
                    raise CodecError(f"codebook data is damaged: {number} where at most {most} can be")
                return number
        raise CodecError("codebook data is damaged: a number does not end")

    def expect_end(self) -> None:
        if self.left or any(self._parts):
            raise CodecError("codebook data is damaged: bytes follow its end")

    def _next(self) -> bytes:
        for part in self._parts:
            if part:
                return part
        raise CodecError("codebook data ends early")
