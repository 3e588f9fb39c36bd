"""``fleet status``: the fleet at a glance."""

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json
from fleet_cloud.masking import mask_url


def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Show the fleet at a glance."""
    with get_connection(context).open() as client:
        view = client.status()
        health = client.health()
    if output is Format.JSON:
        print_json({"health": health, "fleet": view})
        return
    states = ", ".join(f"{count} {state}" for state, count in sorted(view.assignments.items()))
    print(f"controller  {mask_url(get_connection(context).server)}, broker {health.broker}")
    print(f"devices     {view.devices_online} online, {view.devices_offline} offline")
    print(f"models      {view.models} models, {view.versions} versions")
    print(f"rollouts    {view.rollouts_running} running")
    print(f"assignments {states or 'none'}")
    print(f"telemetry   {view.telemetry.samples} samples, lost {view.telemetry.lost}")
