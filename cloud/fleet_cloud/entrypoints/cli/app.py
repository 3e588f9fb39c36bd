"""The tree of commands."""

from typing import Annotated

import typer

from fleet_cloud import __version__
from fleet_cloud.entrypoints.cli import (
    audit,
    broker,
    build,
    builds,
    cache,
    config,
    context,
    demo,
    device_identity,
    devices,
    login,
    models,
    push,
    recipes,
    rollouts,
    serve,
    status,
    telemetry,
    token,
    trust,
    worker,
)
from fleet_cloud.entrypoints.cli.connection import Wanted

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
app.command("login")(login.login)
app.add_typer(context.app, name="context")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(recipes.app, name="recipe")
app.add_typer(cache.app, name="cache")
app.add_typer(models.app, name="model")
device_identity.add_commands(devices.app)
app.add_typer(devices.app, name="device")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(builds.app, name="builds")
app.add_typer(worker.app, name="worker")
app.add_typer(broker.app, name="broker")
app.add_typer(trust.app, name="trust")
app.add_typer(config.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet {__version__}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(envvar="FLEET_SERVER", help="Address of the controller, in place of a context."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="FLEET_TOKEN", help="API token, in place of the stored one.")
    ] = None,
    context_name: Annotated[
        str | None,
        typer.Option("--context", envvar="FLEET_CONTEXT", help="A controller that fleet login has stored."),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option(envvar="FLEET_CA_FILE", help="Certificates (PEM) by which to know the controller."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    address = None if server is None else server.rstrip("/")
    context.obj = Wanted(address, token, context_name, ca_file)
