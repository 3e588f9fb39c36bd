"""``fleet trust rotate ca``: another certificate authority takes the place of the one that there is."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, print_json
from fleet_cloud.errors import Invalid

if TYPE_CHECKING:
    from fleet_cloud.client.views import AuthoritiesView


def rotate_ca(
    context: typer.Context,
    finish: Annotated[
        bool, typer.Option("--finish", help="End it: the older authority is believed no more.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --finish: also where devices are cut off by it.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how far devices have come.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Replace the certificate authority of devices, broker and controller. Both are believed until --finish,
    and devices change by themselves meanwhile."""
    show_rotation(replace_authority(context, finish=finish, force=force, status=status), output)


def replace_authority(
    context: typer.Context, *, finish: bool, force: bool, status: bool
) -> "AuthoritiesView":
    """Begin it, end it, or only look."""
    if (status and (finish or force)) or (force and not finish):
        raise Invalid(
            "--force goes with --finish, and --status with neither",
            hint="fleet trust rotate ca begins it, --finish ends it",
            code="authority.rotation.options",
        )
    with get_connection(context).open() as client:
        return client.authorities() if status else client.rotate_authority(finish=finish, force=force)


def show_rotation(view: "AuthoritiesView", output: Format) -> None:
    if output is Format.JSON:
        print_json(view)
    else:
        print_rotation(view)


def print_rotation(view: "AuthoritiesView") -> None:
    newest, *older = view.fingerprints
    print(f"authority: {newest[:16]}")
    if not older:
        print("no other is believed")
        return
    print(f"replaces:  {', '.join(one[:16] for one in older)}, which is believed until --finish")
    print(f"devices:   {view.believing} of {view.devices} know it, {view.holding} have a certificate of it")
    if view.behind:
        more = view.behind_total - len(view.behind[:5])
        print(f"behind:    {', '.join(view.behind[:5])}{f' and {more} more' if more else ''}")
    else:
        print("all have changed: fleet trust rotate ca --finish")
