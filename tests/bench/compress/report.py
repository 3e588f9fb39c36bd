"""The table: one row for each method of each side, as JSON and as Markdown."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.bench.compress.plan import METHODS, find_method
from tests.bench.compress.scoring import Answers, Score
from tests.bench.compress.statistics import average_seeds, compare, top1

BEGIN: Final = "<!-- compress: begin (written by make bench-compress) -->"
END: Final = "<!-- compress: end -->"


@dataclass(frozen=True)
class Row:
    """``top1``: in percent, the mean over seeds. ``drop``: points below the float model given the same extra
    steps, with the ends of its 95 % interval; none where that reference was not made. Bytes are means.
    ``p50_share``: of what the float model took in the same turns."""

    side: str
    method: str
    seeds: int
    top1: float
    reference: str
    drop: float | None
    drop_low: float | None
    drop_high: float | None
    file_bytes: int
    xz_bytes: int
    wire_bytes: int
    operations: int | None
    p50_us: float | None
    p50_share: float | None


def make_rows(scores: Sequence[Score]) -> list[Row]:
    """Return the rows in the order of the plan, Fleet's before the peer's."""
    groups: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in scores:
        groups[score.made.method, score.made.side].append(score)
    answers = join_seeds(scores)
    known = {one.made.method: one.made.operations for one in scores if one.made.operations is not None}
    return [
        _make_row(groups[method.name, side], answers, known)
        for method in METHODS
        for side in ("fleet", "tfmot")
        if (method.name, side) in groups
    ]


def join_seeds(scores: Sequence[Score]) -> dict[tuple[str, str], Answers]:
    """Return, by method and side, how often each image was told right over the seeds."""
    groups: dict[tuple[str, str], list[Answers]] = defaultdict(list)
    for score in scores:
        groups[score.made.method, score.made.side].append(score.answers)
    return {key: average_seeds(group) for key, group in groups.items()}


def _make_row(
    group: Sequence[Score], answers: Mapping[tuple[str, str], Answers], known: Mapping[str, int]
) -> Row:
    made = group[0].made
    method = find_method(made.method)
    timed = next((one for one in group if one.p50_us is not None), group[0])
    own, reference = answers[made.method, made.side], answers.get((method.reference, "fleet"))
    drop = None if reference is None else compare(reference, own)
    return Row(
        side=made.side,
        method=made.method,
        seeds=len(group),
        top1=round(100 * top1(own), 2),
        reference=method.reference,
        drop=None if drop is None else round(100 * drop.mean, 2),
        drop_low=None if drop is None else round(100 * drop.low, 2),
        drop_high=None if drop is None else round(100 * drop.high, 2),
        file_bytes=_mean([one.file_bytes for one in group]),
        xz_bytes=_mean([one.xz_bytes for one in group]),
        wire_bytes=_mean([one.wire_bytes for one in group]),
        operations=known.get(made.method),
        p50_us=None if timed.p50_us is None else round(timed.p50_us, 1),
        p50_share=None if timed.p50_share is None else round(timed.p50_share, 3),
    )


def _mean(values: Sequence[int]) -> int:
    return round(float(np.mean(values)))


def write_report(rows: Sequence[Row], scores: Sequence[Score], about: Mapping[str, Any], file: Path) -> None:
    """Write JSON with each file's answers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files = [score.to_json() for score in scores]
    document = {**about, "rows": [asdict(row) for row in rows], "files": files}
    file.write_text(json.dumps(document, indent=1) + "\n")


def write_page(tables: str, page: Path) -> None:
    """Put the tables between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


def load_published(file: Path, about: Mapping[str, Any]) -> list[Score]:
    """Return the scores that are published there of a run like this one: from the same weights and images."""
    if not file.is_file():
        return []
    document = json.loads(file.read_text())
    alike = all(document.get(name) == value for name, value in about.items())
    return [Score.from_json(one) for one in document["files"]] if alike else []


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = (
        "| method | side | seeds | top-1 | drop, points | file | xz | wire | operations | LiteRT p50 |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(f"| {' | '.join(_format(row))} |\n" for row in rows)


def _format(row: Row) -> list[str]:
    drop = "" if row.drop is None else f"{row.drop:+.2f} ({row.drop_low:+.2f} to {row.drop_high:+.2f})"
    return [
        row.method,
        row.side,
        str(row.seeds),
        f"{row.top1:.2f} %",
        drop,
        *(f"{count:,}" for count in (row.file_bytes, row.xz_bytes, row.wire_bytes)),
        "" if row.operations is None else f"{row.operations / 1e6:.2f} M",
        _format_time(row),
    ]


def _format_time(row: Row) -> str:
    if row.p50_us is None:
        return ""
    return f"{row.p50_us:.0f} us" + ("" if row.p50_share is None else f" ({row.p50_share:.2f})")
