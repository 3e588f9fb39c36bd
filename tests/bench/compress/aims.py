"""What the benchmark is to show of Fleet's methods, and whether it does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.compress.plan import ENTRIES, SPARSITIES
from tests.bench.compress.report import Row, join_seeds
from tests.bench.compress.scoring import Answers, Score
from tests.bench.compress.statistics import Difference, compare

DROP_MAX: Final = 1.0
GRID: Final = tuple(f"pcqat-{sparsity}-{entries}" for sparsity in SPARSITIES for entries in ENTRIES)


@dataclass(frozen=True)
class Aim:
    """``holds``: none when what it is about was not measured."""

    name: str
    holds: bool | None
    found: str

    def __str__(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.holds]
        return f"| {self.name} | {verdict} | {self.found} |"


@dataclass(frozen=True)
class Found:
    """All that was measured, by method and side."""

    rows: Mapping[tuple[str, str], Row]
    answers: Mapping[tuple[str, str], Answers]

    def row(self, method: str, side: str = "fleet") -> Row:
        return self.rows[method, side]

    def gain(self, better: str, worse: str, other_side: str = "fleet") -> Difference:
        """Return how much better Fleet's ``better`` is, in points."""
        found = compare(self.answers[better, "fleet"], self.answers[worse, other_side])
        return Difference(100 * found.mean, 100 * found.low, 100 * found.high)


def judge(rows: Sequence[Row], scores: Sequence[Score]) -> list[Aim]:
    """Return the aims in order, each with what was found."""
    found = Found({(row.method, row.side): row for row in rows}, join_seeds(scores))
    return [_judge(name, check, found) for name, check in AIMS]


def format_aims(aims: Sequence[Aim]) -> str:
    return "| aim | holds | found |\n|---|---|---|\n" + "".join(f"{aim}\n" for aim in aims)


def _judge(name: str, check: "Check", found: Found) -> Aim:
    try:
        return Aim(name, *check(found))
    except KeyError as exc:
        return Aim(name, None, f"not measured: {exc.args[0]}")


Check = Callable[[Found], tuple[bool, str]]


def _int8(found: Found) -> tuple[bool, str]:
    row = found.row("int8")
    low, high = _drop(row), _upper(row)
    return low <= 0.5 and high <= 1.2, f"{low:+.2f}, at most {high:+.2f}"


def _aware(found: Found) -> tuple[bool, str]:
    own, after, peer = (
        _drop(row) for row in (found.row("int8-aware"), found.row("int8"), found.row("int8-aware", "tfmot"))
    )
    beside = found.gain("int8-aware", "int8-aware", "tfmot")
    said = f"{own:+.2f}; after training {after:+.2f}; tfmot {peer:+.2f}; better than tfmot by {_say(beside)}"
    return own <= after and own <= peer, said


def _pruned(found: Found) -> tuple[bool, str]:
    drop = _drop(found.row("prune50-int8"))
    ratio = found.row("int8").wire_bytes / found.row("prune50-int8").wire_bytes
    return drop <= DROP_MAX and ratio >= 1.3, f"{drop:+.2f}, {ratio:.2f} times smaller"


def _within(method: str) -> Check:
    def check(found: Found) -> tuple[bool, str]:
        drop = _drop(found.row(method))
        return drop <= DROP_MAX, f"{drop:+.2f}"

    return check


def _filters(found: Found) -> tuple[bool, str]:
    half, whole = found.row("filters-half"), found.row("float")
    gain = found.gain("filters-half", "filters-half-scratch")
    share = (half.operations or 0) / (whole.operations or 1)
    said = f"{_drop(half):+.2f} at {100 * share:.0f} % of the operations; better than scratch by {_say(gain)}"
    if half.p50_share is None:
        raise KeyError("the time of filters-half")
    faster = 1 / half.p50_share
    holds = _drop(half) <= 2.5 and gain.mean > 0 and faster >= 1.3
    return holds, f"{said}; {faster:.2f} times faster"


def _student(found: Found) -> tuple[bool, str]:
    gain = found.gain("student-distilled", "student")
    return gain.mean >= 0.5 and gain.low > 0, _say(gain)


def _best(found: Found) -> tuple[bool, str]:
    """Where no point of the peer's grid holds the drop, what is its best there is said instead."""
    own, peer = _smallest(found, "fleet"), _smallest(found, "tfmot")
    if own is None:
        return (
            False,
            f"none of Fleet's holds it: {_nearest(found, 'fleet')}; tfmot: {_nearest(found, 'tfmot')}",
        )
    measured = f"{len(_grid(found, 'fleet'))} and {len(_grid(found, 'tfmot'))} of {len(GRID)} points"
    said = f"{measured}; {own.method}: {_drop(own):+.2f}, xz {own.xz_bytes:,}, wire {own.wire_bytes:,}"
    if peer is None:
        peer = min((row for row in _grid(found, "tfmot")), key=_drop)
        said += f"; none of tfmot's holds it, its nearest is {peer.method}: {_drop(peer):+.2f}"
    else:
        said += f"; tfmot {peer.method}: {_drop(peer):+.2f}"
    coder, encoding = peer.xz_bytes / own.xz_bytes, peer.xz_bytes / own.wire_bytes
    said += f", xz {peer.xz_bytes:,}: {coder:.2f} times, in Fleet's encoding {encoding:.2f} times"
    return coder >= 1.15 and encoding >= 1.5, said


def _grid(found: Found, side: str) -> list[Row]:
    rows = [found.rows[method, side] for method in GRID if (method, side) in found.rows]
    if not rows:
        raise KeyError(f"{side}'s combinations")
    return rows


def _smallest(found: Found, side: str) -> Row | None:
    held = [row for row in _grid(found, side) if _drop(row) <= DROP_MAX]
    return min(held, key=lambda row: row.xz_bytes, default=None)


def _nearest(found: Found, side: str) -> str:
    row = min(_grid(found, side), key=_drop)
    return f"{row.method} {_drop(row):+.2f}, xz {row.xz_bytes:,}, wire {row.wire_bytes:,}"


def _drop(row: Row) -> float:
    if row.drop is None:
        raise KeyError(row.reference)
    return row.drop


def _upper(row: Row) -> float:
    if row.drop_high is None:
        raise KeyError(row.reference)
    return row.drop_high


def _say(one: Difference) -> str:
    return f"{one.mean:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


AIMS: Final[Sequence[tuple[str, Check]]] = (
    ("int8 after training drops at most 0.5 points, surely at most 1.2", _int8),
    ("int8-aware is no worse than that, nor than tfmot's", _aware),
    ("50 % zeros and int8: at most 1 point, 1.3 times smaller on the wire than int8", _pruned),
    ("32 clusters: at most 1 point", _within("cluster32")),
    ("5-bit logarithms: at most 1 point", _within("log5")),
    (
        "filters at half the operations: better than from scratch, at most 2.5 points, 1.3 times faster",
        _filters,
    ),
    ("a student of half the width gains at least 0.5 points by its teacher, surely more than 0", _student),
    (
        "best combination at float - 1 point: 1.15 times below tfmot's with xz, 1.5 times in own encoding",
        _best,
    ),
)
