"""The progress of a build: what moves, and what the numbers are called."""

import io

from rich.console import Console

from fleet_cloud.entrypoints.cli.build_display import LiveDisplay, describe_event
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

EPOCH = Epoch(epoch=3, epochs=25, loss=0.5, accuracy=0.9, seconds_left=7.0, subject="float")
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
        assert show(StepBegan(subject="float", step="training")) == [("float          training", None, "")]
        ((name, total, note),) = show(EPOCH)
        assert (name, total) == ("float training", 25)
        assert "validation accuracy 90.0 %" in note
        assert show(StepEnded(subject="float", step="training", seconds=3.0)) == [
            ("measuring float", None, "")
        ]
        assert show(Stage(name="measuring")) == [("measuring", None, "")]
        assert show(BUILT) == [("measuring", None, "")]


def test_a_trial_says_what_was_tried_and_what_came_out() -> None:
    tried = Tried(trial=7, passes="prune-weights 0.5, int8", against="wire", accuracy=0.972, cost=2048.0)
    said = "trial 7 prune-weights 0.5, int8: validation accuracy 97.2 %, wire 2.0 KiB"
    assert words(tried) == said
    timed = Tried(trial=7, passes="int8", against="latency", accuracy=0.5, cost=1234.4)
    assert words(timed).endswith("latency 1,234 us")
    failed = Tried(trial=8, passes="cluster 2", against="wire", why="accuracy is below its gate")
    assert words(failed) == "trial 8 cluster 2: no result: accuracy is below its gate"


def words(event: BuildEvent) -> str:
    return " ".join(describe_event(event).split())


def test_a_step_says_where_it_stands_what_came_out_and_what_it_took() -> None:
    ended = StepEnded(
        subject="int8-pruned", step="prune-weights", number=1, steps=2, seconds=4.06, score=0.985
    )
    assert describe_event(ended).split() == [
        "✓",
        "int8-pruned",
        "1/2",
        "prune-weights",
        "validation",
        "98.5",
        "%",
        "4.1",
        "s",
    ]
    kept = StepEnded(subject="float", step="training", cached=True, seconds=30.0, score=-0.25)
    assert describe_event(kept).split() == [
        "↺",
        "float",
        "training",
        "squared",
        "error",
        "0.25",
        "from",
        "the",
        "cache",
    ]
    unknown = StepEnded(subject="fp16", step="float16", seconds=0.1)
    assert words(unknown) == "✓ fp16 float16 0.1 s"


def test_a_step_back_names_the_gate_and_the_change() -> None:
    event = BackedOff(subject="pruned", step="prune-weights", why="too low", change="sparsity 0.8 -> 0.6")
    assert describe_event(event) == "  pruned: too low; again with prune-weights sparsity 0.8 -> 0.6"


def test_names_are_no_markup() -> None:
    written = io.StringIO()
    with LiveDisplay(Console(file=written, width=120)) as display:
        display.show(Warned(message="a layer called [bold]x[/nothing]"))
        display.show(StepBegan(subject="[/v]", step="int8"))
    assert "[bold]x[/nothing]" in written.getvalue()
