"""The tree of commands."""

from typing import Annotated

import typer

from fleet_cloud import __version__
from fleet_cloud.entrypoints.cli import (
    broker,
    build,
    config,
    demo,
    device_identity,
    devices,
    models,
    push,
    rollouts,
    serve,
    status,
    telemetry,
)
from fleet_cloud.entrypoints.cli.connection import DEFAULT_SERVER, Connection

app = typer.Typer(
    help="Deploy machine-learning models to a fleet of edge devices, and know what happened on each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("build")(build.build)
app.command("push")(push.push)
app.command("status")(status.status)
app.command("telemetry")(telemetry.telemetry)
app.command("demo")(demo.demo)
app.add_typer(models.app, name="model")
device_identity.add_commands(devices.app)
app.add_typer(devices.app, name="device")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(broker.app, name="broker")
app.add_typer(config.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet {__version__}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(envvar="FLEET_SERVER", help="Address of the controller.")
    ] = DEFAULT_SERVER,
    token: Annotated[
        str | None, typer.Option(envvar="FLEET_TOKEN", help="Operator token, if the controller asks for one.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = Connection(server, token)
