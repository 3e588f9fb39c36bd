"""``fleet builds list | watch | cancel``: builds on shared workers."""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_cloud.entrypoints.cli.connection import Connection, get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table
from fleet_cloud.entrypoints.cli.signals import telling_if_interrupted

if TYPE_CHECKING:
    from fleet_cloud.client import Client
    from fleet_cloud.client.views import BuildJobView
    from fleet_cloud.factory.events import BuildEvent, Registered

app = typer.Typer(help="Builds on shared workers.", no_args_is_help=True)

Job = Annotated[str, typer.Argument(help="Id of the build.")]
LOOK_EVERY_S: Final = 1.0


@app.command("list")
def list_builds(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List builds, newest first."""
    with get_connection(context).open() as client:
        jobs = client.builds()
    if output is Format.JSON:
        print_json(jobs)
        return
    rows = [(j.id, j.model, j.state, j.version or "", j.worker or "", j.created_by) for j in jobs]
    columns = ("build", "model", "state", "version", "worker", "by")
    print_table(columns, rows, empty="nothing was queued yet: fleet build RECIPE --remote")


@app.command("watch")
def watch(context: typer.Context, build: Job, output: Output = Format.TABLE) -> None:
    """Show the progress of a build up to its end, from its beginning. Ctrl-C leaves it at work."""
    from fleet_cloud.entrypoints.cli.build import print_registered

    print_registered(watch_build(get_connection(context), build), output)


@app.command("cancel")
def cancel(context: typer.Context, build: Job, output: Output = Format.TABLE) -> None:
    """End a build that waits or runs."""
    with get_connection(context).open() as client:
        job = client.cancel_build(build)
    if output is Format.JSON:
        print_json(job)
        return
    print(f"build {job.id} of {job.model} is {job.state}")


def queue_build(connection: Connection, recipe: Path, version: str | None) -> "BuildJobView":
    """Send a recipe and the files that it names to the controller, for a shared worker."""
    from fleet_cloud.entrypoints.bundles import pack_bundle
    from fleet_shared.names import digest_of

    model, bundle = pack_bundle(recipe)
    with connection.open() as client:
        digest = digest_of(bundle)
        client.put_blob(digest, bundle)
        return client.create_build(model, digest, version)


def watch_build(connection: Connection, job: str) -> "Registered":
    """Show a remote build like one on this machine; raise `BuildError` when it fails or is cancelled."""
    from fleet_cloud.entrypoints.cli.build import show_build

    goes_on = f"build {job} goes on: fleet builds watch {job}, fleet builds cancel {job}"
    with telling_if_interrupted(goes_on), connection.open() as client:
        return show_build(_follow(client, job))


def _follow(client: "Client", job: str) -> "Generator[BuildEvent]":
    """Yield what the build said, and says. The worker is asked nothing: this may end at any time."""
    import time

    from fleet_cloud.errors import BuildError
    from fleet_cloud.factory.events import Failed, Stage, parse_event

    view, after = client.build(job), 0
    yield Stage(name="queued", detail=f"build {job} waits for a worker")
    while True:
        events = client.build_events(job, after)
        for event in events:
            after = event.seq
            parsed = parse_event(event.event.encode())
            if not isinstance(parsed, Failed):
                yield parsed
        if not events and not view.is_open:
            break
        view = client.build(job)
        if not events and view.is_open:
            time.sleep(LOOK_EVERY_S)
    if view.failure is not None:
        raise BuildError(view.failure.message, hint=view.failure.hint, code=view.failure.code)
    raise BuildError(f"build {job} is {view.state}", hint="fleet builds list", code="build.job.cancelled")
