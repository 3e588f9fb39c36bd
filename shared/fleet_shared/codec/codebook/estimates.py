"""How long the code of a stretch will be, without coding it.

What a question with learned probabilities costs in all depends on the counts of its answers alone: the
Krichevsky-Trofimov length, in closed form. So questions with and without their neighbourhood, and stretches
apart and together, can be compared by counting pairs.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from fleet_shared.codec.codebook.adaptive import padded, sign_contexts, size_contexts
from fleet_shared.codec.codebook.alphabet import Alphabet

Pairs = Counter[tuple[object, int]]
"""How often an answer (second) was given in a neighbourhood (first)."""
_HALF: Final = math.lgamma(0.5)


@dataclass(frozen=True)
class Answers:
    """Counts of the answers about sizes and sides, in one neighbourhood and in many, and about the rest."""

    sizes: Pairs
    sizes_there: Pairs
    sides: Pairs
    sides_there: Pairs
    rest: Pairs

    def __add__(self, other: "Answers") -> "Answers":
        return Answers(
            self.sizes + other.sizes,
            self.sizes_there + other.sizes_there,
            self.sides + other.sides,
            self.sides_there + other.sides_there,
            self.rest + other.rest,
        )

    @property
    def by_size(self) -> bool:
        """Whether the neighbourhood makes the code shorter."""
        return self._lengths[1] < self._lengths[0]

    @property
    def by_sign(self) -> bool:
        return self._lengths[3] < self._lengths[2]

    @property
    def bits(self) -> float:
        sizes, sizes_there, sides, sides_there, rest = self._lengths
        return min(sizes, sizes_there) + min(sides, sides_there) + rest

    @cached_property
    def _lengths(self) -> tuple[float, ...]:
        every = (self.sizes, self.sizes_there, self.sides, self.sides_there, self.rest)
        return tuple(learned_bits(pairs) for pairs in every)


def count_answers(alphabet: Alphabet, places: bytes, row: int) -> Answers:
    magnitudes = places.translate(padded(alphabet.magnitudes))
    signs = places.translate(padded(alphabet.signs))
    classes = places.translate(padded([magnitude.bit_length() for magnitude in alphabet.magnitudes]))
    nowhere = bytes(len(places))
    groups = zip(zip(classes, signs, strict=True), places, strict=True)
    return Answers(
        Counter(zip(nowhere, classes, strict=True)),
        Counter(zip(size_contexts(magnitudes, row), classes, strict=True)),
        Counter(_sided(nowhere, signs)),
        Counter(_sided(sign_contexts(signs, row), signs)),
        Counter((group, place) for group, place in groups if group[0] > 1),
    )


def learned_bits(pairs: Pairs) -> float:
    """Return the length of all answers, each learned in its neighbourhood."""
    counts: defaultdict[object, list[int]] = defaultdict(list)
    for (context, _), count in pairs.items():
        counts[context].append(count)
    return sum(_length(one) for one in counts.values()) / math.log(2)


def _length(counts: Sequence[int]) -> float:
    """Return the Dirichlet-1/2 length of answers that came so often, in nats."""
    total, kinds = sum(counts), len(counts) + 1  # and one for all that did not come
    return (
        math.lgamma(total + kinds / 2)
        - math.lgamma(kinds / 2)
        - sum(math.lgamma(count + 0.5) - _HALF for count in counts)
    )


def _sided(contexts: Sequence[int], signs: bytes) -> Iterable[tuple[object, int]]:
    return ((context, sign) for context, sign in zip(contexts, signs, strict=True) if sign)
