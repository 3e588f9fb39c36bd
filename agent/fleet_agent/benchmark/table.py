"""A benchmark for people."""

from collections.abc import Sequence

from fleet_agent.benchmark.rows import BenchmarkRow, find_fastest
from fleet_shared.limits import MIB

HEAD = ("", "runtime", "threads", "p50 ms", "p99 ms", "peak MiB", "grew MiB", "load ms", "golden vectors")


def describe_table(rows: Sequence[BenchmarkRow]) -> str:
    """Return the table; ``*`` marks the fastest that passes."""
    fastest = find_fastest(rows)
    lines = [HEAD, *(_cells(row, row is fastest) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD) - 1)]
    return "\n".join(_align(line, widths).rstrip() for line in lines)


def _align(line: Sequence[str], widths: Sequence[int]) -> str:
    """Text to the left, numbers to the right."""
    cells = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=False))
    ]
    return "  ".join([*cells, line[-1]])


def _cells(row: BenchmarkRow, is_fastest: bool) -> tuple[str, ...]:
    name = f"{row.runtime} {row.version}"
    measured = row.measured
    if measured is None:
        return ("", name, str(row.threads), "-", "-", "-", "-", "-", row.outcome)
    return (
        "*" if is_fastest else "",
        name,
        str(row.threads),
        f"{measured.p50_us / 1000:.3f}",
        f"{measured.p99_us / 1000:.3f}",
        f"{measured.peak_bytes / MIB:.0f}",
        f"{measured.growth_bytes / MIB:.1f}",
        f"{measured.load_ms:.0f}",
        row.outcome,
    )


def describe_row(row: BenchmarkRow) -> str:
    """Return one row as a line."""
    p50 = "" if row.measured is None else f"{row.measured.p50_us / 1000:.3f} ms, "
    return f"{row.runtime} on {row.threads} threads: {p50}{row.outcome}"
