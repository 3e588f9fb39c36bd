"""``fleet broker config``: a Mosquitto for this controller. Works on files, beside the controller."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The broker.", no_args_is_help=True)

NEXT = """\
Settings of the controller, for its configuration file:

{settings}
Then, on the broker's machine (deploy/mosquitto/README.md says it step by step):
  - give {folder} to the broker's group, and {state} to the broker's user;
  - start Mosquitto with {folder}/mosquitto.conf.
"""


@app.callback()
def broker() -> None:
    """The broker."""


@app.command("config")
def config(
    out: Annotated[Path, typer.Option(help="Folder to write to; the broker reads from it.")],
    data: Annotated[str | None, typer.Option(help="Data folder of the controller.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file (TOML).")] = None,
    broker: Annotated[str | None, typer.Option(help="mqtts://host:port; else the first --host.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address by which the broker is reached; repeatable.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Address to listen on; all, if none is given.")] = "",
    state: Annotated[
        Path | None, typer.Option(help="Where the broker keeps its rules; else a folder below --out.")
    ] = None,
) -> None:
    """Write configuration, rules, certificates and revocation list for Mosquitto."""
    from fleet_cloud.entrypoints.mosquitto import configure
    from fleet_cloud.settings import load_settings

    settings, _ = load_settings({"data": data, "broker": broker}, os.environ, config)
    written = configure(settings, out, state, listen, host or [])
    for file in written.files:
        typer.echo(f"wrote {file}")
    typer.echo(f"\n{NEXT.format(settings=written.settings, folder=out, state=state or out / 'state')}")
