"""The decoder: pure Python, a group in memory at a time, and no more work than allowed."""

from collections.abc import Iterable, Iterator
from typing import Final

from fleet_shared.codec.codebook import rest
from fleet_shared.codec.codebook.adaptive import ROW_MAX
from fleet_shared.codec.codebook.form import GROUP_BYTES, GROUP_WORK, MAGIC, NEW, PIECE_VALUES, PIECE_WORK
from fleet_shared.codec.codebook.model import AnyModel, read_model
from fleet_shared.codec.codebook.numbers import Reader
from fleet_shared.codec.codebook.work import Work
from fleet_shared.errors import CodecError
from fleet_shared.limits import CODEBOOK_BYTES, CODEBOOK_WORK

PIECES_MAX: Final = GROUP_BYTES // 64
HEAD_MAX: Final = GROUP_BYTES
CODE_MAX: Final = 4 * PIECE_VALUES


def decode(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield plain parts of at most `GROUP_BYTES`. Raises `CodecError` on damage that shows."""
    reader, work = Reader(parts), Work(CODEBOOK_WORK)
    if reader.take(len(MAGIC)) != MAGIC:
        raise CodecError("this is no codebook data, or of a newer form")
    left = reader.number(CODEBOOK_BYTES)
    model: AnyModel | None = None
    while left:
        group = _Group(reader, min(left, GROUP_BYTES), work, model)
        left -= group.size_bytes
        yield from group.decode()
        model = group.model
    reader.expect_end()


class _Group:
    def __init__(self, reader: Reader, most: int, work: Work, model: AnyModel | None) -> None:
        self._reader, self._work, self.model = reader, work, model
        work.spend(GROUP_WORK)
        self.size_bytes = reader.number(most)
        if not self.size_bytes:
            raise CodecError("codebook data is damaged: an empty group")
        head_bytes, plain_bytes = reader.number(HEAD_MAX), reader.number(HEAD_MAX + GROUP_BYTES)
        packed = reader.take(reader.number(2 * (HEAD_MAX + GROUP_BYTES)))
        self._rest = Reader([rest.unpack(packed, plain_bytes)])
        self._head = Reader([self._rest.take(head_bytes)])
        self._left = self.size_bytes

    def decode(self) -> Iterator[bytes]:
        for _ in range(self._head.number(PIECES_MAX)):
            yield from self._piece()
        if self._head.left >= rest.WORD_BYTES:
            raise CodecError("codebook data is damaged: more follows the last piece of a group")
        yield self._rest.take(self._left)
        self._rest.expect_end()

    def _piece(self) -> Iterator[bytes]:
        if self._head.number(NEW) == NEW:
            self.model = read_model(self._head, self._work)
        model = self.model
        if model is None:
            raise CodecError("codebook data is damaged: no codebook to go on with")
        gap = self._head.number(self._left)
        row, width = max(1, self._head.number(ROW_MAX)), model.alphabet.width
        count = self._head.number(min(PIECE_VALUES, (self._left - gap) // width))
        code = self._reader.take(self._head.number(CODE_MAX))
        self._left -= gap + count * width
        yield self._rest.take(gap)
        self._work.spend(PIECE_WORK)
        yield model.alphabet.values(model.decode(code, count, row, self._work))
