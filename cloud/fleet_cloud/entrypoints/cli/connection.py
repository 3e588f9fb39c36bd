"""Which controller a command speaks to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from fleet_cloud.client import Client

DEFAULT_SERVER: Final = "http://127.0.0.1:8470"


@dataclass(frozen=True, slots=True)
class Connection:
    server: str
    token: str | None

    def open(self) -> "Client":
        from fleet_cloud.client import Client

        return Client(self.server, self.token)


def get_connection(context: typer.Context) -> Connection:
    """Return the connection that the top-level options describe."""
    connection = context.find_object(Connection)
    if connection is None:
        raise ValueError("the command was called without the top-level callback")
    return connection
