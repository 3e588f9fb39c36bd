"""``fleet build RECIPE``: train, compress, evaluate and register a version."""

import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import Connection, get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json
from fleet_cloud.entrypoints.cli.signals import telling_if_interrupted

if TYPE_CHECKING:
    from fleet_cloud.factory.events import BuildEvent, Registered, Searched


def build(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    version: Annotated[
        str | None, typer.Option(help="Version number; else the next minor one.", metavar="X.Y.Z")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Also write the test split here (.npz): a source for devices.")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute everything anew, and keep nothing.")
    ] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run the Python that the recipe names as its architecture.")
    ] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="On a shared worker (fleet worker builds), not on this machine.")
    ] = False,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Try what the recipe's section search says; print the best. Nothing is registered.",
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="With --search: how long, in place of what the recipe says.", min=0.001),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Train and compress a model, and register it as a new version."""
    connection = get_connection(context)
    if search:
        if version is not None or held_out is not None or no_cache or remote:
            raise typer.BadParameter(
                "--version, --held-out, --no-cache and --remote are not for searches", param_hint="--search"
            )
        from fleet_cloud.entrypoints.cli.build_search import print_searched, run_search

        print_searched(run_search(connection, recipe, minutes, allow_code), output)
        return
    if minutes is not None:
        raise typer.BadParameter("it is for searches only", param_hint="--minutes")
    if not remote:
        print_registered(run_build(connection, recipe, version, held_out, no_cache, allow_code), output)
        return
    from fleet_cloud.entrypoints.cli.builds import queue_build, watch_build

    if held_out is not None or no_cache or allow_code:
        raise typer.BadParameter(
            "--held-out, --no-cache and --allow-code are about builds on this machine", param_hint="--remote"
        )
    job = queue_build(connection, recipe, version)
    print_registered(watch_build(connection, job.id), output)


def print_registered(registered: "Registered", output: Output) -> None:
    if output is Format.JSON:
        print_json(registered)
        return
    print(describe_fate("registered", registered.model, registered.version, registered.created))


def describe_fate(done: str, model: str, version: str, created: bool) -> str:
    """Say whether a version is new: the same content keeps the version that it has."""
    fate = done if created else "unchanged: the same content is registered already as"
    return f"{fate} {model}:{version}"


def run_build(
    connection: Connection,
    recipe: Path,
    version: str | None = None,
    held_out: Path | None = None,
    no_cache: bool = False,
    allow_code: bool = False,
) -> "Registered":
    """Build ``recipe`` and show progress on standard error; raise `BuildError` when it fails."""
    from fleet_cloud.entrypoints.build_process import follow_build

    options = {"--version": version, "--held-out": held_out}
    given = [word for key, value in options.items() if value is not None for word in (key, str(value))]
    flags = {"--no-cache": no_cache, "--allow-code": allow_code}
    given += [word for word, wanted in flags.items() if wanted]
    kept = "nothing is kept" if no_cache else "passes that have ended are kept: the same command goes on"
    with telling_if_interrupted(f"interrupted; {kept}"):
        return show_build(follow_build(["recipe", str(recipe), *given], connection))


def show_build(events: "Generator[BuildEvent]") -> "Registered":
    """Follow ``events`` to the registered version, live on a terminal, else in plain lines. However
    this ends, the worker behind them ends with it."""
    from fleet_cloud.errors import BuildError
    from fleet_cloud.factory.events import Registered

    last = show_events(events)
    if isinstance(last, Registered):
        return last
    raise BuildError("the build ended without a registered version", code="build.process")


def show_events(events: "Generator[BuildEvent]") -> "Registered | Searched | None":
    """Follow ``events`` as `show_build` does, to the event that tells the result, if it comes."""
    from fleet_cloud.entrypoints.cli.build_display import LiveDisplay, PlainDisplay
    from fleet_cloud.factory.events import Registered, Searched

    with closing(events), LiveDisplay() if sys.stderr.isatty() else PlainDisplay() as display:
        for event in events:
            display.show(event)
            if isinstance(event, Registered | Searched):
                return event
    return None
