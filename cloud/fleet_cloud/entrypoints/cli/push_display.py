"""A rollout while it runs: one line for each device, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fleet_cloud.client import AssignmentView, RolloutView
from fleet_cloud.entrypoints.cli.output import describe_bytes
from fleet_shared.messages.reported import Failure

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
    print(
        f"rollout {view.id}: {view.model}:{view.version} to {len(view.devices)} devices",
        file=sys.stderr,
        flush=True,
    )
    for view in _looks(load):
        for assignment in view.assignments:
            line = _describe(assignment)
            if said.get(assignment.device) != line:
                said[assignment.device] = line
                print(line, file=sys.stderr, flush=True)
    return view


def _describe(assignment: AssignmentView) -> str:
    variant = f" ({assignment.variant})" if assignment.variant else ""
    why = f"; {_describe_failure(assignment.failure)}" if assignment.failure else ""
    return f"{assignment.device}: {assignment.state}{variant}{why}"


def _describe_failure(failure: Failure) -> str:
    """An open assignment may have one too: why the device waits before it tries again."""
    return f"{failure.code}: {failure.message}"


def _table(view: RolloutView, speeds: Speeds) -> Table:
    return make_table(view, speeds, now_ms=int(time.time() * 1000), now_s=time.monotonic())


def make_table(view: RolloutView, speeds: Speeds, *, now_ms: int, now_s: float) -> Table:
    """Return the rollout as a table at a moment: ``now_ms`` by the wall clock, as the controller's
    times are; ``now_s`` for speeds."""
    table = Table(title=f"{view.model}:{view.version}", title_justify="left", box=None, pad_edge=False)
    for name in ("device", "state", "variant", "download", "speed", "time", "why"):
        table.add_column(name, no_wrap=name != "why")
    assigned = {assignment.device: assignment for assignment in view.assignments}
    for device in view.devices:
        assignment = assigned.get(device)
        if assignment is None:
            table.add_row(device, "waiting", "", "", "", _describe_span(view.created_ms, now_ms), "")
        else:
            speed = speeds.update(device, assignment.bytes_done, now_s)
            table.add_row(*_row(assignment, speed, now_ms))
    return table


def _row(assignment: AssignmentView, speed: float | None, now_ms: int) -> tuple[str, ...]:
    return (
        assignment.device,
        assignment.state,
        assignment.variant or "",
        f"{describe_bytes(assignment.bytes_done)} / {describe_bytes(assignment.bytes_total)}"
        if assignment.bytes_total
        else "",
        f"{describe_bytes(int(speed))}/s" if speed else "",
        _describe_span(assignment.created_ms, now_ms if assignment.is_open else assignment.updated_ms),
        escape(_describe_failure(assignment.failure)) if assignment.failure else "",
    )


def _describe_span(begin_ms: int, end_ms: int) -> str:
    """The operator's clock may lag behind the controller's."""
    return f"{max(0, end_ms - begin_ms) / 1000:.1f} s"
