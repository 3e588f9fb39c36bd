"""A rollout while it runs: one line for each device, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fleet_cloud.client import AssignmentView, RolloutView
from fleet_cloud.entrypoints.cli.output import describe_bytes

POLL_S = 0.4


@dataclass
class Speeds:
    """Bytes per second of each device, from one look to the next."""

    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)

    def update(self, device: str, bytes_done: int, now_s: float) -> float | None:
        then_s, before = self._seen.get(device, (now_s, bytes_done))
        self._seen[device] = (now_s, bytes_done)
        if now_s <= then_s or bytes_done <= before:
            return None
        return (bytes_done - before) / (now_s - then_s)


def follow_rollout(load: Callable[[], RolloutView]) -> RolloutView:
    """Show the rollout until it ends, and return its last state."""
    return _follow_live(load) if sys.stderr.isatty() else _follow_plain(load)


def _looks(load: Callable[[], RolloutView]) -> Iterator[RolloutView]:
    while True:
        view = load()
        yield view
        if view.state != "running":
            return
        time.sleep(POLL_S)


def _follow_live(load: Callable[[], RolloutView]) -> RolloutView:
    speeds = Speeds()
    view = load()
    with Live(_table(view, speeds), console=Console(stderr=True), refresh_per_second=4) as live:
        for view in _looks(load):
            live.update(_table(view, speeds))
    return view


def _follow_plain(load: Callable[[], RolloutView]) -> RolloutView:
    said: dict[str, str] = {}
    view = load()
    for view in _looks(load):
        for assignment in view.assignments:
            if said.get(assignment.device) != assignment.state:
                said[assignment.device] = assignment.state
                variant = f" ({assignment.variant})" if assignment.variant else ""
                print(f"{assignment.device}: {assignment.state}{variant}", file=sys.stderr, flush=True)
    return view


def _table(view: RolloutView, speeds: Speeds) -> Table:
    table = Table(title=f"{view.model}:{view.version}", title_justify="left", box=None, pad_edge=False)
    for name in ("device", "state", "variant", "bytes", "speed", "time"):
        table.add_column(name)
    assigned = {assignment.device: assignment for assignment in view.assignments}
    for device in view.devices:
        assignment = assigned.get(device)
        if assignment is None:
            table.add_row(device, "waiting", "", "", "", "")
        else:
            table.add_row(*_row(assignment, speeds))
    return table


def _row(assignment: AssignmentView, speeds: Speeds) -> tuple[str, ...]:
    speed = speeds.update(assignment.device, assignment.bytes_done, time.monotonic())
    return (
        assignment.device,
        assignment.state,
        assignment.variant or "",
        f"{describe_bytes(assignment.bytes_done)} / {describe_bytes(assignment.bytes_total)}"
        if assignment.bytes_total
        else "",
        f"{describe_bytes(int(speed))}/s" if speed else "",
        f"{(assignment.updated_ms - assignment.created_ms) / 1000:.1f} s",
    )
