"""A static coder for the weights of large models: one table look-up for each, no learning.

Asymmetric numeral systems over a range (Duda, 2013: rANS), shares of 1/4096, a state of 32 bits, words of 16.
What is coded last is decoded first, so a code is made from its end.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

from fleet_shared.codec.codebook.adaptive import read_words
from fleet_shared.codec.codebook.alphabet import Alphabet
from fleet_shared.codec.codebook.numbers import Reader, write_number
from fleet_shared.codec.codebook.work import Work
from fleet_shared.errors import CodecError

SHARE_BITS: Final = 12
ONE: Final = 1 << SHARE_BITS
STATES: Final = 1024
"""What making the table costs, in units of work."""
_LOW: Final = 1 << 16


@dataclass
class StaticModel:
    """``shares``: how often each entry comes, in units of 1/4096; they sum to one."""

    alphabet: Alphabet
    shares: tuple[int, ...]

    def write(self) -> bytes:
        return b"".join(map(write_number, self.shares))

    def encode(self, places: bytes, row: int) -> bytes:  # noqa: ARG002 - contexts are for the adaptive one
        starts = list(accumulate(self.shares, initial=0))
        state, words = _LOW, []
        for place in reversed(places):
            share = self.shares[place]
            if state >= share << 20:
                words.append(state & 0xFFFF)
                state >>= 16
            state = (state // share << SHARE_BITS) + state % share + starts[place]
        words += [state & 0xFFFF, state >> 16]
        return struct.pack(f"<{len(words)}H", *reversed(words))

    def decode(self, code: bytes, count: int, row: int, work: Work) -> bytes:  # noqa: ARG002
        """Return ``count`` places of entries; their number bounds the work. Raises `CodecError` on damage
        that shows."""
        table, words = self._table, read_words(code)
        next_word, mask, out = iter(words).__next__, ONE - 1, bytearray()
        try:
            state = next_word() << 16 | next_word()
            for _ in range(count):
                place, share, offset = table[state & mask]
                state = share * (state >> SHARE_BITS) + offset
                if state < _LOW:
                    state = state << 16 | next_word()
                out.append(place)
        except StopIteration:
            raise CodecError("codebook data is damaged: a code ends early") from None
        if state != _LOW:
            raise CodecError("codebook data is damaged: a code does not end where it shall")
        return bytes(out)

    @cached_property
    def _table(self) -> list[tuple[int, int, int]]:
        return [(place, share, slot) for place, share in enumerate(self.shares) for slot in range(share)]


def read_static(alphabet: Alphabet, reader: Reader) -> StaticModel:
    shares = tuple(reader.number(ONE) for _ in alphabet.entries)
    if sum(shares) != ONE:
        raise CodecError("codebook data is damaged: shares that do not sum to one")
    return StaticModel(alphabet, shares)


def find_shares(alphabet: Alphabet, counts: Mapping[bytes, int]) -> tuple[int, ...]:
    """Return the shares of 1/4096 that are nearest to the counts, at least one for what comes at all."""
    total = sum(counts.values())
    found = [counts.get(entry, 0) for entry in alphabet.entries]
    shares = [max(1, count * ONE // total) if count else 0 for count in found]
    while (missing := ONE - sum(shares)) != 0:
        # What changes the length of the code least, one unit at a time.
        step = 1 if missing > 0 else -1
        best = max(
            (place for place, share in enumerate(shares) if share and (step > 0 or share > 1)),
            key=lambda place: found[place] * _log_of_step(shares[place], step),
        )
        shares[best] += step
    return tuple(shares)


def _log_of_step(share: int, step: int) -> float:
    """Return about how much a code gets longer or shorter, by 1/share."""
    return step / (share + step / 2)
