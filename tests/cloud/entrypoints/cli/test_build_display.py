"""The progress of a build: what moves, and what the numbers are called."""

import io

from rich.console import Console

from fleet_cloud.entrypoints.cli.build_display import LiveDisplay, describe_event
from fleet_cloud.factory.events import BuildEvent, Epoch, Stage, VariantBuilt, Warned

EPOCH = Epoch(epoch=3, epochs=25, loss=0.5, accuracy=0.9, seconds_left=7.0)
BUILT = VariantBuilt(name="int8", size_bytes=2048, accuracy=0.5, validation_accuracy=0.9, latency_p50_us=None)


def test_accuracies_say_of_which_split_they_are() -> None:
    assert "validation accuracy 90.0 %" in describe_event(EPOCH)
    assert "test accuracy 50.0 %" in describe_event(BUILT)
    without = Epoch(epoch=3, epochs=25, loss=0.5, error=0.25, seconds_left=7.0)
    assert "loss 0.5000  validation error 0.2500  7 s left" in describe_event(without)
    assert describe_event(Warned(message="proves little")) == "  warning: proves little"


def tasks(display: LiveDisplay) -> list[tuple[str, float | None, str]]:
    return [(task.description, task.total, str(task.fields["note"])) for task in display._progress.tasks]


def test_something_moves_at_any_time_and_an_early_stop_takes_the_bar_away() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with LiveDisplay(console) as display:
        assert tasks(display) == [("loading", None, "")]

        def show(event: BuildEvent) -> list[tuple[str, float | None, str]]:
            display.show(event)
            return tasks(display)

        assert show(Stage(name="starting", detail="model digits")) == [("starting", None, "")]
        assert show(Stage(name="training")) == [("training", None, "")]
        ((name, total, note),) = show(EPOCH)
        assert (name, total) == ("training", 25)
        assert "validation accuracy 90.0 %" in note
        assert show(Stage(name="variants")) == [("variants", None, "")]
        assert show(BUILT) == [("variants", None, "")]
