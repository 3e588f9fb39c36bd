"""The values of a stretch, in their order; how far each is from the most usual one is its rank.

Ranks are what contexts look at: weights around zero are alike on both sides, be they bytes or entries of a
codebook of floats.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from fleet_shared.codec.codebook.numbers import Reader, write_number
from fleet_shared.errors import CodecError

ENTRIES_MAX: Final = 256
WIDTHS: Final = (1, 2, 4)
_FORMATS: Final = {1: "b", 2: "h", 4: "i"}


@dataclass(frozen=True)
class Alphabet:
    """``entries``: distinct values of ``width`` bytes; ``centre``: the place of the one whose rank is 0."""

    width: int
    entries: tuple[bytes, ...]
    centre: int

    @property
    def lowest(self) -> int:
        """The rank of the first entry, 0 or less."""
        return -self.centre

    @property
    def highest(self) -> int:
        return len(self.entries) - 1 - self.centre

    @cached_property
    def magnitudes(self) -> bytes:
        """The distance of each entry from the centre."""
        return bytes(abs(place - self.centre) for place in range(len(self.entries)))

    @cached_property
    def signs(self) -> bytes:
        """0 at the centre, 1 above, 2 below."""
        return bytes((place > self.centre) + 2 * (place < self.centre) for place in range(len(self.entries)))

    def values(self, places: bytes) -> bytes:
        """Return what the places of entries stand for. Raises `CodecError` for a place without entry."""
        if self.width == 1:
            padding = bytes(ENTRIES_MAX - len(self.entries))
            return bytes(places).translate(b"".join(self.entries) + padding)
        try:
            return b"".join(map(self.entries.__getitem__, places))
        except IndexError:
            raise CodecError("codebook data is damaged: an entry that is none") from None

    def write(self) -> bytes:
        head = write_number(self.width)
        if self.width == 1 and self == implied(self.entries[self.centre]):
            return head + write_number(0) + self.entries[self.centre]
        count = len(self.entries)
        planes = (bytes(entry[at] for entry in self.entries) for at in range(self.width))
        return head + write_number(count) + write_number(self.centre) + b"".join(planes)


def read_alphabet(reader: Reader) -> Alphabet:
    width = reader.number(max(WIDTHS))
    if width not in WIDTHS:
        raise CodecError(f"codebook data is damaged: values of {width} bytes")
    count = reader.number(ENTRIES_MAX)
    if not count and width == 1:
        return implied(reader.take(1))
    if not count:
        raise CodecError("codebook data is damaged: a codebook without entries")
    centre = reader.number(count - 1)
    planes = [reader.take(count) for _ in range(width)]
    return Alphabet(width, tuple(bytes(entry) for entry in zip(*planes, strict=True)), centre)


def implied(centre: bytes) -> Alphabet:
    """Return the alphabet of all bytes, around one of them, as signed distances go."""
    entries = tuple(bytes([(centre[0] + rank) % 256]) for rank in range(-128, 128))
    return Alphabet(1, entries, 128)


def find_alphabet(counts: Mapping[bytes, int], width: int) -> Alphabet:
    """Return the alphabet of values that are found so many times. Raises `ValueError` for none, or too
    many."""
    if not 1 <= len(counts) <= ENTRIES_MAX:
        raise ValueError(f"{len(counts)} values, an alphabet has 1 to {ENTRIES_MAX}")
    zero = bytes(width)
    centre = zero if zero in counts else max(sorted(counts), key=counts.__getitem__)
    if width == 1:
        entries = sorted(counts, key=lambda entry: (entry[0] - centre[0] + 128) % 256)
    else:
        entries = sorted(counts, key=_as_float)
    return Alphabet(width, tuple(entries), entries.index(centre))


def _as_float(entry: bytes) -> int:
    """Return a number that grows as the float does whose bits these are."""
    (signed,) = struct.unpack(f"<{_FORMATS[len(entry)]}", entry)
    bits = int(signed)
    return bits if bits >= 0 else -(bits & ((1 << (8 * len(entry) - 1)) - 1)) - 1
