"""``fleet config show``: the controller's settings that are in force, and where each comes from."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet_cloud.entrypoints.cli.output import Format, Output, print_json, print_table

app = typer.Typer(help="Settings of the controller.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Settings of the controller."""


@app.command("show")
def show(
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file (TOML).")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Print what is in force and where each value came from; secrets are masked."""
    from fleet_cloud.settings import load_settings

    _, origins = load_settings({}, os.environ, config)
    if output is Format.JSON:
        print_json({o.name: {"value": o.shown, "origin": o.origin} for o in origins})
        return
    print_table(("setting", "value", "from"), [(o.name, o.shown, o.origin) for o in origins], empty="")
