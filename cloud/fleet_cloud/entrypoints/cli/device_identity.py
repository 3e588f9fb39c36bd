"""``fleet device token | tokens | revoke-token | revoke | readmit``: who may be a device here."""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.devices import parse_label_changes
from fleet_cloud.entrypoints.cli.numbers import TOKEN_HOURS_MAX, check_finite
from fleet_cloud.entrypoints.cli.output import Format, Output, describe_age, print_json, print_table
from fleet_cloud.errors import Invalid

if TYPE_CHECKING:
    from fleet_cloud.client.views import EnrolmentTokenView

USES_MAX: Final = 10_000


def add_commands(app: typer.Typer) -> None:
    """Make these commands part of ``fleet device``."""
    for name, command in (
        ("token", token),
        ("tokens", tokens),
        ("revoke-token", revoke_token),
        ("revoke", revoke),
        ("readmit", readmit),
    ):
        app.command(name)(command)


def token(
    context: typer.Context,
    labels: Annotated[list[str] | None, typer.Argument(help="Labels for the device, KEY=VALUE.")] = None,
    hours: Annotated[
        float,
        typer.Option(
            help="How long the token can be used.", min=0.01, max=TOKEN_HOURS_MAX, callback=check_finite
        ),
    ] = 24.0,
    uses: Annotated[int, typer.Option(help="How many devices can enrol with it.", min=1, max=USES_MAX)] = 1,
    device: Annotated[
        str | None,
        typer.Option("--for", help="A device that is known already and is to get a new key with it."),
    ] = None,
) -> None:
    """Make a token with which one device can enrol. It is shown only once."""
    added, removed = parse_label_changes(labels or [])
    if removed:
        raise Invalid(f"label {removed[0]!r} cannot be removed from a new device", hint="write KEY=VALUE")
    with get_connection(context).open() as client:
        print(client.create_token(added, life_s=int(hours * 3600), uses=uses, device=device))


def tokens(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that can be used no more.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List enrolment tokens, and who enrolled with them. Secrets are not kept."""
    with get_connection(context).open() as client:
        found = [one for one in client.enrolment_tokens() if every or one.state == "open"]
    if output is Format.JSON:
        print_json(found)
        return
    rows = [
        (one.id, one.state, f"{len(one.used_by)}/{one.uses_max}", _purpose(one), _ends(one), _users(one))
        for one in found
    ]
    columns = ("token", "state", "uses", "for", "ends", "used by")
    print_table(columns, rows, empty="no token can be used now: fleet device token")


def revoke_token(
    context: typer.Context,
    token: Annotated[str, typer.Argument(help="Id of the token: fleet device tokens.")],
) -> None:
    """Take an enrolment token back. Devices that enrolled with it stay."""
    with get_connection(context).open() as client:
        view = client.revoke_enrolment_token(token)
    stay = f"; {', '.join(view.used_by)} stay: fleet device revoke" if view.used_by else ""
    print(f"token {view.id} is revoked{stay}")


def revoke(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Id of the device.")],
) -> None:
    """Let a device in no more: its session is cut, its certificate refused, its assignments end."""
    with get_connection(context).open() as client:
        view = client.revoke_device(device)
        left = [one for one in client.enrolment_tokens() if one.state == "open" and device in one.used_by]
    if not view.enforced:
        said = "; this broker lets anybody in, so nothing of what the device says is taken up any more"
    elif view.cut:
        said = ", and its session is cut"
    else:
        said = "; the broker is away, or did not read its files (the controller's log says): it is told again"
    print(f"{view.device.id} is revoked{said}")
    for one in left:
        more = f"lets {one.uses_max - len(one.used_by)} more devices in, of any name"
        print(f"the token {one.id} that it enrolled with {more}: fleet device revoke-token {one.id}")


def readmit(
    context: typer.Context,
    devices: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of devices; none: list those that the database does not know."),
    ] = None,
) -> None:
    """Let devices in again with the key that they have: revoked ones, and those that a database restored
    from a backup does not know."""
    with get_connection(context).open() as client:
        if not devices:
            rows = [(one.device, one.public_key_sha256[:16]) for one in client.strangers()]
            print_table(("device", "key"), rows, empty="the database knows every device with a certificate")
            return
        for device in devices:
            print(f"{client.readmit_device(device).id} is let in again")


def _purpose(token: "EnrolmentTokenView") -> str:
    if token.device is not None:
        return f"a new key of {token.device}"
    return ",".join(f"{key}={value}" for key, value in sorted(token.labels.items()))


def _ends(token: "EnrolmentTokenView") -> str:
    left_s = token.expires_ms / 1000 - time.time()
    return f"in {describe_age(left_s)}" if left_s > 0 else f"{describe_age(-left_s)} ago"


def _users(token: "EnrolmentTokenView") -> str:
    more = len(token.used_by) - 3
    return ", ".join(token.used_by[:3]) + (f" and {more} more" if more > 0 else "")
