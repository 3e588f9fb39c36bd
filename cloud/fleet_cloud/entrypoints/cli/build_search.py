"""``fleet build RECIPE --search``: follow a search, and print what no trial beats."""

from pathlib import Path
from typing import TYPE_CHECKING

from fleet_cloud.entrypoints.cli.build import show_events
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.cli.output import Format, print_json, print_table
from fleet_cloud.entrypoints.cli.signals import telling_if_interrupted

if TYPE_CHECKING:
    from fleet_cloud.factory.events import Searched


def run_search(
    connection: Connection, recipe: Path, minutes: float | None = None, allow_code: bool = False
) -> "Searched":
    """Search and show progress on standard error; raise `BuildError` when it fails. Interrupted, it says how
    to go on."""
    from fleet_cloud.entrypoints.build_process import follow_build
    from fleet_cloud.errors import BuildError
    from fleet_cloud.factory.events import Searched

    given = [] if minutes is None else ["--minutes", str(minutes)]
    given += ["--allow-code"] if allow_code else []
    with telling_if_interrupted("interrupted; trials that have ended are kept: the same command goes on"):
        last = show_events(follow_build(["search", str(recipe), *given], connection))
    if isinstance(last, Searched):
        return last
    raise BuildError("the search ended without a result", code="build.process")


def print_searched(searched: "Searched", output: Format) -> None:
    if output is Format.JSON:
        print_json(searched)
        return
    from fleet_cloud.entrypoints.cli.build_display import describe_cost
    from fleet_cloud.entrypoints.cli.output import describe_fraction

    rows = [
        (
            one.name,
            describe_fraction(one.accuracy),
            describe_cost(searched.against, one.cost),
            _name(one.passes),
        )
        for one in searched.front
    ]
    print_table(("trial", "accuracy", searched.against, "passes"), rows, empty="no trial gave a result")
    failed = f", {searched.failed} without a result" if searched.failed else ""
    print(f"\n{searched.trials} trials{failed}; accuracy is that of the validation split")
    if searched.front:
        print(f"as variants of the recipe:\n\n{searched.variants}", end="")


def _name(passes: tuple[dict[str, object], ...]) -> str:
    return ", ".join(str(one["pass"]) for one in passes) or "as trained"
