"""Progress of a build on standard error: live on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fleet_cloud.entrypoints.cli.output import describe_bytes, describe_fraction
from fleet_cloud.factory.events import BuildEvent, Epoch, Stage, VariantBuilt


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
    """A bar for the training, lines for what is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._training: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, event: BuildEvent) -> None:
        if not isinstance(event, Epoch):
            if line := describe_event(event):
                self._progress.console.print(line)
            return
        if self._training is None:
            self._training = self._progress.add_task("  training", total=event.epochs, note="")
        note = f"{event.epoch}/{event.epochs}  loss {event.loss:.4f}  {event.seconds_left:.0f} s left"
        self._progress.update(self._training, completed=event.epoch, note=note)


def describe_event(event: BuildEvent) -> str:
    """Return one line for ``event``; empty when it needs none."""
    match event:
        case Stage(name=name, detail=detail):
            return f"{name}: {detail}" if detail else name
        case Epoch():
            return (
                f"  epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}  "
                f"accuracy {describe_fraction(event.accuracy)}  {event.seconds_left:.0f} s left"
            )
        case VariantBuilt():
            return (
                f"  {event.name:<8} {describe_bytes(event.size_bytes):>10}  "
                f"accuracy {describe_fraction(event.accuracy)}"
            )
        case _:
            return ""
