"""``fleet token create | list | revoke``: tokens of people and programs."""

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import Format, Output, describe_age, print_json, print_table

if TYPE_CHECKING:
    from fleet_cloud.client.views import ApiTokenView

DAYS_MAX: Final = 3660
DAY_S: Final = 86_400

app = typer.Typer(help="API tokens of people and programs.", no_args_is_help=True)


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is: ann, ci-berlin.")],
    role: Annotated[
        Role, typer.Option(help="viewer looks, operator changes what runs, admin decides who may.")
    ] = Role.VIEWER,
    days: Annotated[
        int, typer.Option(help="It ends after so many days; 0: never.", min=0, max=DAYS_MAX)
    ] = 90,
    output: Output = Format.TABLE,
) -> None:
    """Make a token, and show it this once."""
    with get_connection(context).open() as client:
        made = client.create_api_token(name, role.value, days * DAY_S or None)
    if output is Format.JSON:
        print_json(made)
        return
    print(made.secret)


@app.command("list")
def list_tokens(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List tokens, ended ones too; their secrets are nowhere to be had."""
    with get_connection(context).open() as client:
        tokens = client.api_tokens()
    if output is Format.JSON:
        print_json(tokens)
        return
    rows = [(t.id, t.name, t.role, _state(t), _ago(t.created_ms), _ago(t.used_ms)) for t in tokens]
    print_table(
        ("id", "name", "role", "state", "made", "used"), rows, empty="no token yet: fleet token create"
    )


@app.command("revoke")
def revoke(
    context: typer.Context, token: Annotated[str, typer.Argument(help="Name or id of the token.")]
) -> None:
    """End a token."""
    with get_connection(context).open() as client:
        ended = client.revoke_api_token(token)
    print(f"{ended.name} ({ended.id}) has ended")


def _state(token: "ApiTokenView") -> str:
    if token.revoked_ms is not None:
        return "revoked"
    if token.expires_ms is None:
        return "no end"
    left_s = token.expires_ms / 1000 - time.time()
    return f"{describe_age(left_s)} left" if left_s > 0 else "expired"


def _ago(at_ms: int | None) -> str:
    return "" if at_ms is None else f"{describe_age(time.time() - at_ms / 1000)} ago"
