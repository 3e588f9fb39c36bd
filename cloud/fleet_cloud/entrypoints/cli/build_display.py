"""Progress of a build on standard error: live on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from fleet_cloud.entrypoints.cli.output import describe_bytes, describe_fraction
from fleet_cloud.factory.events import BuildEvent, Epoch, Stage, VariantBuilt, Warned


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
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
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
        if line := describe_event(event):
            self._progress.console.print(line, markup=False, soft_wrap=True)
        if isinstance(event, Stage):
            self._follow(event.name, None)

    def _show_epoch(self, event: Epoch) -> None:
        if not self._trains:
            self._follow("training", event.epochs)
        note = (
            f"{event.epoch}/{event.epochs}  loss {event.loss:.4f}  "
            f"{_describe_score(event)}  {event.seconds_left:.0f} s left"
        )
        if self._now is not None:
            self._progress.update(self._now, completed=event.epoch, note=note)

    def _follow(self, name: str, total: int | None) -> None:
        if self._now is not None:
            self._progress.remove_task(self._now)
        self._trains = total is not None
        self._now = self._progress.add_task(name, total=total, note="")


def describe_event(event: BuildEvent) -> str:
    """Return one line for ``event``; empty when it needs none."""
    match event:
        case Stage(name=name, detail=detail):
            return f"{name}: {detail}" if detail else name
        case Epoch():
            return (
                f"  epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}  "
                f"{_describe_score(event)}  {event.seconds_left:.0f} s left"
            )
        case VariantBuilt():
            accuracy = "accuracy unknown"
            if event.accuracy is not None:
                accuracy = f"test accuracy {describe_fraction(event.accuracy)}"
            return f"  {event.name:<8} {describe_bytes(event.size_bytes):>10}  {accuracy}"
        case Warned(message=message):
            return f"  warning: {message}"
        case _:
            return ""


def _describe_score(event: Epoch) -> str:
    if event.accuracy is not None:
        return f"validation accuracy {describe_fraction(event.accuracy)}"
    return "" if event.error is None else f"validation error {event.error:.4f}"
