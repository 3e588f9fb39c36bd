"""Which parts of a file are coded by a codebook, and how. Runs where blobs are packed, not on devices."""

import heapq
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from fleet_shared.codec.codebook.adaptive import ROW_MAX, AdaptiveModel
from fleet_shared.codec.codebook.alphabet import ENTRIES_MAX, Alphabet, find_alphabet, implied
from fleet_shared.codec.codebook.estimates import Answers, count_answers
from fleet_shared.codec.codebook.form import GROUP_BYTES, GROUP_WORK, PIECE_VALUES, PIECE_WORK
from fleet_shared.codec.codebook.model import AnyModel
from fleet_shared.codec.codebook.rest import WORD_BYTES, pack
from fleet_shared.codec.codebook.scanning import entropy_bits, scan
from fleet_shared.codec.codebook.static import STATES, StaticModel, find_shares
from fleet_shared.codec.codebook.tensors import Place, find_tensors
from fleet_shared.codec.codebook.tree import build_tree
from fleet_shared.limits import CODEBOOK_WORK

BYTES_MIN: Final = 96
OVERHEAD_BYTES: Final = 8
"""What a stretch costs beside its code and its model, about."""
FIRST_VALUES: Final = 4096
NAMED_MAX: Final = 64
"""Stretches of bytes with more values than this name none: all 256 are their alphabet."""
STRETCHES_MAX: Final = 500
MODEL_WORK: Final = 4096
"""What making an adaptive model takes of the work, at most for most."""


@dataclass(frozen=True)
class Stretch:
    """``places``: of each value's entry in the alphabet of ``model``; ``row``: values of a row."""

    begin: int
    end: int
    row: int
    places: bytes
    model: AnyModel

    @property
    def width(self) -> int:
        return self.model.alphabet.width


@dataclass(frozen=True)
class _Values:
    """What stands at a place, by an alphabet."""

    place: Place
    counts: Counter[bytes]
    alphabet: Alphabet
    places: bytes

    @property
    def decisions(self) -> int:
        paths = build_tree(self.alphabet).paths()
        lengths = {entry: len(paths[at]) for at, entry in enumerate(self.alphabet.entries)}
        return sum(count * lengths[entry] for entry, count in self.counts.items())


@dataclass
class _Run:
    """Stretches that share a model; none: it is a static one, of one stretch."""

    alphabet: Alphabet
    answers: Answers | None
    members: list[_Values] = field(default_factory=list)

    def stretches(self) -> list[Stretch]:
        model: AnyModel
        if self.answers is None:
            model = StaticModel(self.alphabet, find_shares(self.alphabet, self.members[0].counts))
        else:
            model = AdaptiveModel(self.alphabet, self.answers.by_size, self.answers.by_sign)
        places = ((one.place, one.places) for one in self.members)
        return [Stretch(place.begin, place.end, place.row, at, model) for place, at in places]


def find_stretches(content: bytes) -> list[Stretch]:
    """Return in order what is shorter by a codebook than in the rest; together at most `CODEBOOK_WORK`."""
    found = [ways for place in find_tensors(content) or scan(content) if (ways := _read(content, place))]
    found = _largest(found)
    small = _small_ones([ways[0] for ways in found], CODEBOOK_WORK - _fixed_work(len(content)))
    runs: list[_Run] = []
    for ways in found:
        place = ways[0].place
        plain_bytes = len(pack(content[place.begin : place.end]))
        if place in small:
            _add_adaptive(runs, ways, plain_bytes)
        else:
            _add_static(runs, ways[0], plain_bytes)
    return [stretch for run in runs for stretch in run.stretches()]


def _largest(found: list[list[_Values]]) -> list[list[_Values]]:
    """Return so many that their models alone do not take the work of a device, in the order of the file."""
    if len(found) <= STRETCHES_MAX:
        return found
    kept = heapq.nlargest(STRETCHES_MAX, found, key=lambda ways: ways[0].place.end - ways[0].place.begin)
    return sorted(kept, key=lambda ways: ways[0].place)


def _fixed_work(size_bytes: int) -> int:
    """Return at least what groups and pieces take, beside what is coded in them: a group is cut short by
    less than a piece, and all but the last pieces of stretches are full."""
    groups = size_bytes // (GROUP_BYTES - WORD_BYTES * PIECE_VALUES) + 1
    pieces = size_bytes // PIECE_VALUES + STRETCHES_MAX
    return groups * GROUP_WORK + pieces * PIECE_WORK


def _small_ones(found: list[_Values], work: int) -> set[Place]:
    """Return the places that the adaptive coder may have, the smallest first, within the work allowed;
    the others take the work of a static model each."""
    left, small = work - STATES * len(found), set()
    for values in sorted(found, key=lambda values: values.decisions):
        left -= values.decisions + MODEL_WORK - STATES
        if left < 0:
            break
        small.add(values.place)
    return small


def _add_adaptive(runs: list[_Run], ways: list[_Values], plain_bytes: int) -> None:
    """Code the values by the model of the last run or by one of their own, if that is worth it."""
    best: tuple[float, _Run, _Values] | None = None
    for values in ways:
        answers = count_answers(values.alphabet, values.places, values.place.row)
        table_bytes = len(values.alphabet.write()) + 2
        options = [(answers.bits / 8 + table_bytes, _Run(values.alphabet, answers))]
        if runs and runs[-1].answers is not None and runs[-1].alphabet == values.alphabet:
            together = runs[-1].answers + answers
            more_bits = together.bits - runs[-1].answers.bits
            options.append((more_bits / 8, _Run(values.alphabet, together, runs[-1].members)))
        for size, run in options:
            if best is None or size < best[0]:
                best = size, run, values
    if best is None or best[0] + OVERHEAD_BYTES >= plain_bytes:
        return
    _, run, values = best
    if run.members:
        runs[-1] = run
    else:
        runs.append(run)
    run.members.append(values)


def _add_static(runs: list[_Run], values: _Values, plain_bytes: int) -> None:
    size = entropy_bits(values.counts) / 8 + 3 * len(values.alphabet.entries)
    if size + OVERHEAD_BYTES < plain_bytes:
        runs.append(_Run(values.alphabet, None, [values]))


def _read(content: bytes, place: Place) -> list[_Values]:
    """Return the values at a place by each alphabet that may fit; none where they are too many or few."""
    end = place.end - (place.end - place.begin) % WORD_BYTES
    values = content[place.begin : end]
    if len(values) < BYTES_MIN:
        return []
    numbers = values if place.width == 1 else memoryview(values).cast("H" if place.width == 2 else "I")
    if len(set(numbers[:FIRST_VALUES])) > ENTRIES_MAX:
        return []
    seen = Counter(numbers)
    if len(seen) > ENTRIES_MAX:
        return []
    entries = {number: number.to_bytes(place.width, sys.byteorder) for number in seen}
    counts = Counter({entries[number]: count for number, count in seen.items()})
    place = Place(place.begin, end, place.width, place.row if place.row <= ROW_MAX else 1)
    found = []
    for alphabet in _alphabets(counts, place.width):
        index = {entry: at for at, entry in enumerate(alphabet.entries)}
        by_number = {number: index[entry] for number, entry in entries.items()}
        found.append(_Values(place, counts, alphabet, bytes(map(by_number.__getitem__, numbers))))
    return found


def _alphabets(counts: Counter[bytes], width: int) -> list[Alphabet]:
    named = find_alphabet(counts, width)
    if width > 1:
        return [named]
    every = implied(named.entries[named.centre])
    return [named, every] if len(counts) <= NAMED_MAX else [every]
