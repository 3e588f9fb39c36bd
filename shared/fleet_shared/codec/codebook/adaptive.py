"""An adaptive binary range coder over the questions of a tree, for the weights of small models.

Each question has, in each neighbourhood, a probability of its own that learns from every answer: no table
travels, which for layers of some thousand weights would be a tenth of all. It is the mean of a quick and a
slow estimate, both 1/n at first (Krichevsky and Trofimov, 1981), so that it neither wavers nor lags.

Neighbourhoods: how large the last 16 weights were and those at the same place of the last three rows (a row
is the innermost dimension of the tensor), and the signs of the last weight and of the one a row before.

Whole numbers only, so that every machine computes the same. Rounding keeps every chance away from 0 and 1: an
estimate p stands still once 2p is less than its divisor.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, repeat
from typing import Final

from fleet_shared.codec.codebook.alphabet import Alphabet
from fleet_shared.codec.codebook.tree import MAGNITUDE, SIDE, Tree, build_tree
from fleet_shared.codec.codebook.work import Work
from fleet_shared.errors import CodecError

NEAR: Final = 16
ROWS: Final = 3
ROW_MAX: Final = 8192
SIZES: Final = 10
"""Bits of a sum of magnitudes that are told apart, 0 to 9."""

_BITS: Final = 20
_ONE: Final = 1 << _BITS
_QUICK: Final = 30
_SLOW: Final = 400
_DIVISORS: Final = tuple(2 * seen + 3 for seen in range(_SLOW + 1))
_QUICK_DIVISORS: Final = tuple(min(divisor, 2 * _QUICK + 3) for divisor in _DIVISORS)
_WORD: Final = 1 << 16
_LOW: Final = 1 << 32
_FULL: Final = 1 << 48

_SIZE: Final = tuple(min(SIZES - 1, total.bit_length()) for total in range(NEAR * 255 + 1))


@dataclass
class AdaptiveModel:
    """What was learned so far. ``by_size``, ``by_sign``: whether questions look at their neighbourhood."""

    alphabet: Alphabet
    by_size: bool
    by_sign: bool
    tree: Tree = field(init=False)
    starts: list[int] = field(init=False)
    quick: list[int] = field(init=False)
    slow: list[int] = field(init=False)
    seen: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = build_tree(self.alphabet)
        places = {MAGNITUDE: SIZES * SIZES if self.by_size else 1, SIDE: 9 if self.by_sign else 1}
        widths = [places.get(kind, 1) for kind in self.tree.kinds]
        self.starts = list(accumulate(widths, initial=0))
        total = self.states
        self.quick, self.slow, self.seen = [_ONE >> 1] * total, [_ONE >> 1] * total, [0] * total

    @property
    def states(self) -> int:
        return self.starts[-1]

    def encode(self, places: bytes, row: int) -> bytes:
        """Return the code of the places of entries, one tensor or a slice of it; learn from it."""
        sizes = size_contexts(places.translate(padded(self.alphabet.magnitudes)), row) if self.by_size else ()
        signs = sign_contexts(places.translate(padded(self.alphabet.signs)), row) if self.by_sign else ()
        paths = self.tree.paths()
        kinds, starts = self.tree.kinds, self.starts
        here = [0, 0, 0]
        coder = _RangeEncoder()
        for at, place in enumerate(places):
            if sizes:
                here[MAGNITUDE] = sizes[at]
            if signs:
                here[SIDE] = signs[at]
            for node, answer in paths[place]:
                coder.put(self._learn(starts[node] + here[kinds[node]], answer), answer)
        return coder.end()

    def _learn(self, at: int, answer: int) -> int:
        """Return the chance of a no before this answer."""
        quick, slow, seen = self.quick[at], self.slow[at], self.seen[at]
        if answer:
            self.quick[at] = quick - (quick << 1) // _QUICK_DIVISORS[seen]
            self.slow[at] = slow - (slow << 1) // _DIVISORS[seen]
        else:
            self.quick[at] = quick + ((_ONE - quick) << 1) // _QUICK_DIVISORS[seen]
            self.slow[at] = slow + ((_ONE - slow) << 1) // _DIVISORS[seen]
        if seen < _SLOW:
            self.seen[at] = seen + 1
        return (quick + slow) >> 1

    def decode(  # noqa: PLR0915 - one loop without calls: it is all that a device spends
        self, code: bytes, count: int, row: int, work: Work
    ) -> bytes:
        """Return ``count`` places of entries; learn from them. Each answer is a unit of ``work``."""
        no, yes, kinds, starts, root = (
            self.tree.no,
            self.tree.yes,
            self.tree.kinds,
            self.starts,
            self.tree.root,
        )
        quick, slow, seen = self.quick, self.slow, self.seen
        magnitudes, signs, size_of = self.alphabet.magnitudes, self.alphabet.signs, _SIZE
        by_size, by_sign = self.by_size, self.by_sign
        before = max(NEAR, ROWS * row)
        sizes, sides, out = bytearray(before), bytearray(before), bytearray()
        next_word = chain(read_words(code), repeat(0)).__next__
        value = next_word() << 32 | next_word() << 16 | next_word()
        span, near, here, left = _FULL - 1, 0, [0, 0, 0], work.left
        for at in range(before, before + count):
            if by_size:
                near += sizes[at - 1] - sizes[at - NEAR - 1]
                far = sizes[at - row] + sizes[at - 2 * row] + sizes[at - 3 * row]
                here[0] = size_of[near] * SIZES + size_of[far]
            if by_sign:
                here[1] = sides[at - 1] * 3 + sides[at - row]
            node = root
            while node >= 0:
                state = starts[node] + here[kinds[node]]
                fast, firm, times = quick[state], slow[state], seen[state]
                chance = (fast + firm) >> 1
                bound = (span >> _BITS) * chance
                if value < bound:
                    span = bound
                    quick[state] = fast + ((_ONE - fast) << 1) // _QUICK_DIVISORS[times]
                    slow[state] = firm + ((_ONE - firm) << 1) // _DIVISORS[times]
                    node = no[node]
                else:
                    value -= bound
                    span -= bound
                    quick[state] = fast - (fast << 1) // _QUICK_DIVISORS[times]
                    slow[state] = firm - (firm << 1) // _DIVISORS[times]
                    node = yes[node]
                if times < _SLOW:
                    seen[state] = times + 1
                while span < _LOW:
                    span <<= 16
                    value = value << 16 | next_word()
                left -= 1
            if left < 0:
                work.spend(work.left - left)
            out.append(~node)
            sizes.append(magnitudes[~node])
            sides.append(signs[~node])
        work.left = left
        return bytes(out)


class _RangeEncoder:
    """Carries go into the words that are out already (Martin, 1979: range encoding)."""

    def __init__(self) -> None:
        self._low, self._span = 0, _FULL - 1
        self._words: list[int] = []

    def put(self, chance: int, answer: int) -> None:
        """``chance`` of a no, in units of 2^-20."""
        bound = (self._span >> _BITS) * chance
        if answer:
            self._low += bound
            self._span -= bound
        else:
            self._span = bound
        while self._span < _LOW:
            self._span <<= 16
            self._shift()

    def _shift(self) -> None:
        if self._low >= _FULL:
            self._carry()
        self._words.append(self._low >> 32)
        self._low = (self._low & (_LOW - 1)) << 16

    def _carry(self) -> None:
        self._low -= _FULL
        at = len(self._words) - 1
        while self._words[at] == _WORD - 1:
            self._words[at] = 0
            at -= 1
        self._words[at] += 1

    def end(self) -> bytes:
        """Return the shortest code in the interval; the decoder reads zeros beyond its end."""
        self._low = -(-self._low // _LOW) * _LOW
        for _ in range(3):
            self._shift()
        words = self._words
        while words and not words[-1]:
            words.pop()
        return b"".join(word.to_bytes(2, "little") for word in words)


def size_contexts(magnitudes: bytes, row: int) -> list[int]:
    """Return for each weight how large its neighbours before it are."""
    sums = [0] * NEAR + list(accumulate(magnitudes[:-1], initial=0))
    near = (now - then for now, then in zip(sums[NEAR:], sums, strict=False))
    padded_rows = bytes(ROWS * row) + magnitudes[:-1]
    far = map(sum, zip(padded_rows[2 * row :], padded_rows[row:], padded_rows, strict=False))
    return [_SIZE[one] * SIZES + _SIZE[other] for one, other in zip(near, far, strict=False)]


def sign_contexts(signs: bytes, row: int) -> list[int]:
    """Return for each weight the signs of the one before it and of the one a row before."""
    before, above = b"\0" + signs[:-1], bytes(row) + signs
    return [last * 3 + over for last, over in zip(before, above, strict=False)]


def read_words(code: bytes) -> tuple[int, ...]:
    """Return the words of 16 bits that a code is made of. Raises `CodecError` for half a one."""
    if len(code) % 2:
        raise CodecError("codebook data is damaged: half a word")
    return struct.unpack(f"<{len(code) // 2}H", code)


def padded(entries: Sequence[int]) -> bytes:
    """Return the entries as a table for `bytes.translate`."""
    return bytes(entries) + bytes(256 - len(entries))
