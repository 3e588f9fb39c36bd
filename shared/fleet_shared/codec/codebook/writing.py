"""The encoder: `fleet_shared.codec.codebook` says what the bytes mean."""

from collections.abc import Iterable, Iterator

from fleet_shared.codec.codebook import rest
from fleet_shared.codec.codebook.form import GROUP_BYTES, MAGIC, NEW, PIECE_VALUES, SAME
from fleet_shared.codec.codebook.model import AnyModel, write_model
from fleet_shared.codec.codebook.numbers import write_number
from fleet_shared.codec.codebook.stretches import Stretch, find_stretches
from fleet_shared.errors import CodecError
from fleet_shared.limits import CODEBOOK_BYTES


def encode(parts: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield ``parts``, ``size_bytes`` in all; the same bytes for the same content. Holds it in memory.
    Raises `CodecError` for another length, and for more than `CODEBOOK_BYTES`."""
    if size_bytes > CODEBOOK_BYTES:
        raise CodecError(f"{size_bytes} bytes, a codebook takes at most {CODEBOOK_BYTES}")
    content = _join(parts, size_bytes)
    yield MAGIC + write_number(size_bytes)
    waiting = [piece for stretch in find_stretches(content) for piece in _cut(stretch)][::-1]
    begin, model = 0, None
    while begin < size_bytes:
        end = min(begin + GROUP_BYTES, size_bytes)
        pieces = []
        while waiting and waiting[-1].end <= end:
            pieces.append(waiting.pop())
        if waiting and waiting[-1].begin < end:
            end = waiting[-1].begin
        yield _write_group(content, begin, end, pieces, model)
        begin, model = end, pieces[-1].model if pieces else model


def _join(parts: Iterable[bytes], size_bytes: int) -> bytes:
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > size_bytes:
            break
    if len(content) != size_bytes:
        raise CodecError(f"the content has not the announced {size_bytes} bytes")
    return bytes(content)


def _cut(stretch: Stretch) -> Iterator[Stretch]:
    for at in range(0, len(stretch.places), PIECE_VALUES):
        places = stretch.places[at : at + PIECE_VALUES]
        begin = stretch.begin + at * stretch.width
        yield Stretch(begin, begin + len(places) * stretch.width, stretch.row, places, stretch.model)


def _write_group(
    content: bytes, begin: int, end: int, pieces: list[Stretch], model: AnyModel | None
) -> bytes:
    head, kept, codes, at = [write_number(len(pieces))], [], [], begin
    for piece in pieces:
        code = piece.model.encode(piece.places, piece.row)
        head.append(
            write_number(SAME) if piece.model is model else write_number(NEW) + write_model(piece.model)
        )
        numbers = (piece.begin - at, piece.row, len(piece.places), len(code))
        head += map(write_number, numbers)
        kept.append(content[at : piece.begin])
        codes.append(code)
        at, model = piece.end, piece.model
    kept.append(content[at:end])
    written = b"".join(head)
    written += bytes(-len(written) % rest.WORD_BYTES)
    plain = b"".join((written, *kept))
    packed = rest.pack(plain)
    sizes = (end - begin, len(written), len(plain), len(packed))
    return b"".join((*map(write_number, sizes), packed, *codes))
