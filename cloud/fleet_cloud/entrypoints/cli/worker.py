"""``fleet worker builds``: this machine builds for others."""

import platform
from typing import Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection

app = typer.Typer(help="Workers: machines that work for others.", no_args_is_help=True)


@app.command("builds")
def builds(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option(help="What this worker is called; else the name of the machine.")
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code",
            help="Also run Python functions and models that can hold code: others' code, here.",
        ),
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End after one build.")] = False,
) -> None:
    """Take queued builds, one at a time, until it is stopped. Needs the role operator."""
    from fleet_cloud.entrypoints.workers.remote_builds import BuildWorker

    chosen = name or platform.node().partition(".")[0][:64] or "worker"
    print(f"worker {chosen} waits for builds", flush=True)
    worker = BuildWorker(
        get_connection(context), chosen, allow_code, say=lambda line: print(line, flush=True)
    )
    worker.run(once=once)
