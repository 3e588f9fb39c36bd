"""Where a file of no known form holds values that take few values, by what its blocks hold.

Runs of blocks whose aligned words of 4 bytes are few together; in what is left, runs of blocks whose bytes
are not all alike in number. Whether coding them is worth it is judged afterwards.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from fleet_shared.codec.codebook.alphabet import ENTRIES_MAX
from fleet_shared.codec.codebook.tensors import Place

BLOCK_BYTES: Final = 4096
SKEWED_BITS: Final = 7.5
"""A block of bytes with less entropy each is looked at."""
APART_BITS: Final = 2000
"""Two runs are one, when coding them together costs at most so much more."""


def scan(content: bytes) -> list[Place]:
    """Return places in order, none twice."""
    found, end = [], 0
    for run in _word_runs(content):
        found += [*_byte_runs(content, end, run.begin), run]
        end = run.end
    return [*found, *_byte_runs(content, end, len(content))]


def _word_runs(content: bytes) -> Iterator[Place]:
    words = memoryview(content)[: len(content) // 4 * 4].cast("I")
    step = BLOCK_BYTES // 4
    begin, entries, floor = 0, set[int](), 0
    for at in range(0, len(words) + step, step):
        more = _entries(content[4 * at : 4 * (at + step)])
        if more and len(entries | more) <= ENTRIES_MAX:
            entries |= more
            continue
        if at > begin and len(entries) > 1:
            while begin > floor and words[begin - 1] in entries:
                begin -= 1
            floor = min(at, len(words))
            while floor < len(words) and words[floor] in entries:
                floor += 1
            yield Place(4 * begin, 4 * floor, 4, 1)
        begin, entries = (at, more) if more else (at + step, set())
        begin = max(begin, floor)


def _entries(block: bytes) -> set[int]:
    """Return the words of a block if they are few, and shorter than its bytes, with their codebook."""
    words = Counter(memoryview(block)[: len(block) // 4 * 4].cast("I"))
    if len(words) > ENTRIES_MAX or entropy_bits(words) + 32 * len(words) > entropy_bits(Counter(block)):
        return set()
    return set(words)


def _byte_runs(content: bytes, begin: int, end: int) -> Iterator[Place]:
    start, total = begin, Counter[int]()
    for at in range(begin, end, BLOCK_BYTES):
        block = Counter(content[at : min(at + BLOCK_BYTES, end)])
        skewed = entropy_bits(block) < SKEWED_BITS * block.total()
        together = total + block
        if skewed and entropy_bits(together) <= entropy_bits(total) + entropy_bits(block) + APART_BITS:
            total = together
            continue
        if total:
            yield Place(start, at, 1, 1)
        start, total = (at, block) if skewed else (at + BLOCK_BYTES, Counter())
    if total:
        yield Place(start, end, 1, 1)


def entropy_bits(counts: "Counter[int] | Counter[bytes]") -> float:
    """Return what all symbols together take, coded by themselves."""
    total = counts.total()
    return sum(count * math.log2(total / count) for count in counts.values() if count)
