"""Progress of a build on standard error: live on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from fleet_cloud.entrypoints.cli.output import describe_bytes, describe_fraction
from fleet_cloud.factory.events import (
    BackedOff,
    BuildEvent,
    Epoch,
    Stage,
    StepBegan,
    StepEnded,
    Tried,
    VariantBuilt,
    Warned,
)

DONE: Final = "✓"
KEPT: Final = "↺"
SUBJECT_WIDTH: Final = 14
STEP_WIDTH: Final = 20
"""Longer names push the rest of their line to the right."""


class Display(Protocol):
    def show(self, event: BuildEvent) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PlainDisplay:
    """One line an event, for logs and pipes; about ten epochs are shown of many."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def show(self, event: BuildEvent) -> None:
        if (
            isinstance(event, Epoch)
            and event.epoch % max(1, event.epochs // 10)
            and event.epoch != event.epochs
        ):
            return
        if line := describe_event(event):
            print(line, file=sys.stderr, flush=True)


class LiveDisplay:
    """Lines for what is done; below them what goes on now, always moving: a bar over the epochs while
    it trains (a training that stops early takes its bar away), else a spinner."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True, highlight=False),
            transient=True,
        )
        self._now: TaskID | None = None
        self._trains = False

    def __enter__(self) -> Self:
        self._progress.start()
        self._follow("loading", None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, event: BuildEvent) -> None:
        if isinstance(event, Epoch):
            self._show_epoch(event)
            return
        if isinstance(event, StepBegan):
            self._follow(describe_place(event), None)
            return
        if line := describe_event(event):
            self._progress.console.print(Text(line, style=_STYLES.get(type(event), "")), soft_wrap=True)
        if isinstance(event, Stage):
            self._follow(event.name, None)
        elif isinstance(event, StepEnded):
            last = event.number == event.steps
            self._follow(f"measuring {event.subject}" if last else event.subject, None)

    def _show_epoch(self, event: Epoch) -> None:
        if not self._trains:
            self._follow(f"{event.subject} {event.step}".strip(), event.epochs)
        if self._now is not None:
            self._progress.update(self._now, completed=event.epoch, note=_describe_epoch(event))

    def _follow(self, name: str, total: int | None) -> None:
        if self._now is not None:
            self._progress.remove_task(self._now)
        self._trains = total is not None
        self._now = self._progress.add_task(name, total=total, note="")


_STYLES: Final = {Stage: "bold", Tried: "bold", BackedOff: "yellow", Warned: "yellow"}


def describe_event(event: BuildEvent) -> str:
    """Return one line for ``event``; empty when it needs none."""
    line = ""
    match event:
        case Stage(name=name, detail=detail):
            line = f"{name}: {detail}" if detail else name
        case StepEnded():
            line = _describe_end(event)
        case BackedOff():
            line = f"  {event.subject}: {event.why}; again with {event.step} {event.change}"
        case Epoch():
            line = f"    {event.step} epoch {_describe_epoch(event)}"
        case VariantBuilt():
            line = _describe_built(event)
        case Tried():
            line = _describe_trial(event)
        case Warned(message=message):
            line = f"  warning: {message}"
        case _:
            pass
    return line


def _describe_epoch(event: Epoch) -> str:
    found = ""
    if event.accuracy is not None:
        found = f"validation accuracy {describe_fraction(event.accuracy)}  "
    elif event.error is not None:
        found = f"validation error {event.error:.4f}  "
    return f"{event.epoch}/{event.epochs}  loss {event.loss:.4f}  {found}{event.seconds_left:.0f} s left"


def _describe_built(event: VariantBuilt) -> str:
    accuracy = "accuracy unknown"
    if event.accuracy is not None:
        accuracy = f"test accuracy {describe_fraction(event.accuracy)}"
    return f"  {event.name:<{SUBJECT_WIDTH}} {describe_bytes(event.size_bytes):>10}  {accuracy}"


def _describe_trial(event: Tried) -> str:
    place = f"  trial {event.trial:<4} {event.passes}"
    if event.accuracy is None or event.cost is None:
        return f"{place}: no result: {event.why}"
    cost = describe_cost(event.against, event.cost)
    return f"{place}: validation accuracy {describe_fraction(event.accuracy)}, {event.against} {cost}"


def describe_cost(against: str, cost: float) -> str:
    """Return what a search weighs accuracy against: bytes, or the time of an inference."""
    return f"{cost:,.0f} us" if against == "latency" else describe_bytes(int(cost))


def describe_place(event: StepBegan | StepEnded) -> str:
    """Return which step of what: ``int8-pruned    1/2 prune-weights``."""
    number = f"{event.number}/{event.steps} " if event.steps > 1 else ""
    return f"{event.subject:<{SUBJECT_WIDTH}} {number}{event.step}"


def _describe_end(event: StepEnded) -> str:
    took = "from the cache" if event.cached else f"{event.seconds:.1f} s"
    place = describe_place(event).ljust(SUBJECT_WIDTH + STEP_WIDTH)
    return f"  {KEPT if event.cached else DONE} {place} {_describe_score(event.score):<16} {took}".rstrip()


def _describe_score(score: float | None) -> str:
    """A score below zero is that of a regression: minus the mean squared error."""
    if score is None:
        return ""
    return f"validation {describe_fraction(score)}" if score >= 0 else f"squared error {-score:.4g}"
