"""Where the tensors of a ``.tflite`` lie: as much of FlatBuffers as that takes, read only.

A table starts with the distance to the list of its fields; a vector with its length. What does not parse
has no tensors: they only guide the encoder, a wrong place costs bytes and nothing else.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

IDENTIFIER: Final = b"TFL3"
TENSORS_MAX: Final = 100_000
# The numbers of fields in the schema of TFLite.
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER = 0, 1, 2
_DATA = 0
_WIDTHS: Final = {0: 4, 1: 2, 2: 4, 3: 1, 9: 1, 17: 1}
"""Bytes of a value by the number of its type: float32, float16, int32, uint8, int8, int4 (packed)."""


@dataclass(frozen=True, order=True)
class Place:
    """``width``: bytes of one value; ``row``: values of the innermost dimension."""

    begin: int
    end: int
    width: int
    row: int


def find_tensors(content: bytes) -> list[Place]:
    """Return the places of constant tensors in order, none twice; none at all for other files."""
    if content[4:8] != IDENTIFIER:
        return []
    try:
        found = list(_tensors(_Table.root(content)))
    except (struct.error, IndexError, OverflowError):
        return []
    places, end = [], 0
    for place in sorted(found):
        if place.begin >= end and place.end <= len(content):
            places.append(place)
            end = place.end
    return places


def _tensors(model: "_Table") -> Iterator[Place]:
    buffers = model.tables(_BUFFERS)
    left = TENSORS_MAX  # of all graphs together: they may be one graph, named again and again
    for graph in model.tables(_SUBGRAPHS):
        tensors = graph.tables(_TENSORS)
        left -= len(tensors)
        if left < 0:
            raise IndexError(left)
        for tensor in tensors:
            number = tensor.number(_BUFFER, "<I")
            width = _WIDTHS.get(tensor.number(_TYPE, "<b"))
            if not 0 < number < len(buffers) or width is None:
                continue
            begin, length = buffers[number].vector(_DATA)
            at, dimensions = tensor.vector(_SHAPE)
            row = struct.unpack_from("<i", tensor.content, at + 4 * (dimensions - 1))[0] if dimensions else 1
            if length:
                yield Place(begin, begin + length, width, max(1, row))


@dataclass(frozen=True)
class _Table:
    content: bytes
    at: int

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        return cls(content, _read(content, 0, "<I"))

    def number(self, field: int, form: str) -> int:
        place = self._field(field)
        return _read(self.content, place, form) if place else 0

    def vector(self, field: int) -> tuple[int, int]:
        """Return where a vector's first element is, and how many there are."""
        place = self._field(field)
        if not place:
            return 0, 0
        at = place + _read(self.content, place, "<I")
        return at + 4, _read(self.content, at, "<I")

    def tables(self, field: int) -> list["_Table"]:
        at, count = self.vector(field)
        if count > TENSORS_MAX:
            raise IndexError(count)
        places = (at + 4 * number for number in range(count))
        return [_Table(self.content, place + _read(self.content, place, "<I")) for place in places]

    def _field(self, field: int) -> int:
        """Return where a field of this table is; 0 where it is left out."""
        fields = self.at - _read(self.content, self.at, "<i")
        if fields < 0:
            raise IndexError(fields)
        offset = 4 + 2 * field
        if offset >= _read(self.content, fields, "<H"):
            return 0
        step = _read(self.content, fields + offset, "<H")
        return self.at + step if step else 0


def _read(content: bytes, at: int, form: str) -> int:
    return int(struct.unpack_from(form, content, at)[0])
