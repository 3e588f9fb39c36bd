"""Which controller a command speaks to, and as whom.

The first of these that there is: ``--server``; the context that ``--context`` names; the current context; the
controller on this machine. A token is sent only to the server that it is for: with ``--server``, that of the
context or of the controller on this machine counts if its address is the same.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from fleet_cloud.errors import Invalid
from fleet_cloud.local import default_data, load_local

if TYPE_CHECKING:
    from fleet_cloud.client import Client
    from fleet_cloud.entrypoints.cli.contexts import Context

DEFAULT_SERVER: Final = "http://127.0.0.1:8470"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options before the command, or the environment, say."""

    server: str | None = None
    token: str | None = None
    context: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """``ca_file``: certificates of authorities by which to know the server, in place of the system's;
    ``exact``: it is the server's own."""

    server: str
    token: str | None
    ca_file: str | None = None
    exact: bool = False

    def open(self) -> "Client":
        from fleet_cloud.client import Client

        return Client(self.server, self.token, self.ca_file, exact=self.exact)


def get_connection(context: typer.Context) -> Connection:
    """Return the connection that the top-level options describe."""
    wanted = context.find_object(Wanted)
    if wanted is None:
        raise ValueError("the command was called without the top-level callback")
    return resolve(wanted, find_known(wanted), _find_local())


def resolve(wanted: Wanted, context: Connection | None, local: Connection | None) -> Connection:
    """Return where to connect. ``context``: the one that is named, or the current one."""
    known = [one for one in (context, local) if one is not None]
    if wanted.server is not None:
        same = [one for one in known if one.server == wanted.server]
        base = same[0] if same else Connection(wanted.server, None)
    else:
        base = known[0] if known else Connection(DEFAULT_SERVER, None)
    exact = base.exact and wanted.ca_file is None
    return Connection(base.server, wanted.token or base.token, wanted.ca_file or base.ca_file, exact)


def find_known(wanted: Wanted) -> Connection | None:
    """Return the context that is named, the one of the server that is, or the current one."""
    from fleet_cloud.entrypoints.cli.contexts import open_contexts

    contexts = open_contexts()
    found: Context | None
    if wanted.context is not None:
        found = contexts.get(wanted.context)
        if wanted.server not in (None, found.server):
            raise Invalid(
                f"the context {found.name!r} is {found.server}, not {wanted.server}",
                hint="leave out one of --context and --server; FLEET_CONTEXT and FLEET_SERVER count too",
                code="context.server",
            )
    elif wanted.server is not None:
        found = contexts.find_server(wanted.server)
    else:
        found = contexts.current()
    if found is None:
        return None
    ca_file = contexts.ca_file(found)
    token = wanted.token or contexts.secrets.get(found.name)
    return Connection(found.server, token, None if ca_file is None else str(ca_file))


def _find_local() -> Connection | None:
    data = os.environ.get("FLEET_DATA") or default_data()
    local = load_local(Path(data))
    return None if local is None else Connection(local.server, local.token, local.ca_file, local.exact)
