"""``fleet rollout list | show``: what was pushed, and how far it got."""

from typing import Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, describe_bytes, print_json, print_table

app = typer.Typer(help="Rollouts: what was pushed, and how far it got.", no_args_is_help=True)


@app.command("list")
def list_rollouts(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List rollouts, newest first."""
    with get_connection(context).open() as client:
        rollouts = client.rollouts()
    if output is Format.JSON:
        print_json(rollouts)
        return
    rows = [(r.id, f"{r.model}:{r.version}", r.selector, len(r.devices), r.state) for r in rollouts]
    print_table(("rollout", "model", "to", "devices", "state"), rows, empty="nothing was pushed yet")


@app.command("show")
def show(
    context: typer.Context,
    rollout: Annotated[str, typer.Argument(help="Id of the rollout.")],
    output: Output = Format.TABLE,
) -> None:
    """Show each device of a rollout."""
    from fleet_cloud.entrypoints.cli.push import print_failures

    with get_connection(context).open() as client:
        view = client.rollout(rollout)
    if output is Format.JSON:
        print_json(view)
        return
    print(f"{view.model}:{view.version} to {view.selector}: {view.state}\n")
    rows = [
        (a.device, a.state, a.variant, f"{describe_bytes(a.bytes_done)} / {describe_bytes(a.bytes_total)}")
        for a in view.assignments
    ]
    print_table(("device", "state", "variant", "download"), rows, empty="no device was assigned yet")
    if failed := [a for a in view.assignments if a.failure is not None]:
        print()
        print_failures(failed)
