"""``fleet login URL``: sign in to a controller, and remember it as a context."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from fleet_cloud.entrypoints.cli.connection import Wanted
from fleet_cloud.errors import Forbidden, Invalid, Unavailable

if TYPE_CHECKING:
    from fleet_cloud.client import Client

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def login(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Address of the controller: https://fleet.example:8470")],
    name: Annotated[str | None, typer.Option(help="Name of the context; else the host.")] = None,
    ca_sha256: Annotated[
        str | None, typer.Option(help="Fingerprint of the controller's authorities, as fleet serve shows it.")
    ] = None,
) -> None:
    """Sign in to a controller, and make it the current context."""
    from fleet_cloud.entrypoints.cli.contexts import Context, check_name, open_contexts

    server = parse_server(url)
    given = context.find_object(Wanted) or Wanted()
    chosen = check_name(name or (urlsplit(server).hostname or "").replace(":", "-"))
    pem = _choose_authorities(server, given.ca_file, ca_sha256)
    if server.startswith("http://"):
        print("note: without HTTPS the token can be read on its way", file=sys.stderr)
    token = given.token or _ask_token()
    with _open(server, token, pem) as client:
        who = client.whoami()
    place = open_contexts().put(Context(name=chosen, server=server, pinned=pem is not None), token, pem)
    print(f"signed in to {server} as {who.name} ({who.role}); context {chosen}, token in {place}")


@contextmanager
def _open(server: str, token: str | None, pem: str | None) -> "Iterator[Client]":
    """Speak to a server that is known by the authorities ``pem``; none: by those of the system."""
    from fleet_cloud.client import Client

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pinned:
        pinned.write(pem or "")
        pinned.flush()
        with Client(server, token, pinned.name if pem is not None else None) as client:
            yield client


def parse_server(url: str) -> str:
    """Return the address without a path; HTTPS where nothing is said."""
    text = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        good = good and parts.port != 0 and parts.path in ("", "/") and not parts.query
    except ValueError:
        good = False
    if not good:
        raise Invalid(
            f"{url!r} is not the address of a controller",
            hint="for example fleet login https://fleet.example:8470",
            code="controller.address",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _choose_authorities(server: str, ca_file: str | None, ca_sha256: str | None) -> str | None:
    """Return the certificates to know the controller by, none for those of the system."""
    from fleet_cloud.client.authorities import fetch_authorities

    if server.startswith("http://"):
        return None
    if ca_file is not None:
        return _read_file(ca_file)
    if ca_sha256 is None and _is_proven(server, None):
        return None
    found = fetch_authorities(server)
    if not _is_proven(server, found):
        raise Forbidden(
            f"the certificate of {server} is neither of the controller's own authorities nor of one that "
            "this machine knows, or it is for another name",
            hint="where the controller was given its certificate: --ca-file FILE, those of who issued it",
            code="login.ca",
        )
    return _choose(server, found, ca_sha256)


def _is_proven(server: str, pem: str | None) -> bool:
    """Tell whether what answers there has a certificate of these authorities. Nothing secret is sent."""
    try:
        with _open(server, None, pem) as client:
            client.health()
    except Forbidden as exc:
        if exc.code != "controller.untrusted":
            raise
        return False
    return True


def _choose(server: str, pem: str, wanted: str | None) -> str:
    """Return what of ``pem`` somebody vouches for: all of it, or, by its fingerprint, one certificate (while
    an authority is replaced there are two)."""
    from fleet_shared.names import digest_of

    found = digest_of(pem.encode())
    if wanted is not None:
        digest = wanted.removeprefix("sha256:").lower()
        same = [part for part in (pem, *_CERTIFICATE.findall(pem)) if digest_of(part.encode()) == digest]
        if not same:
            raise Forbidden(
                f"the authorities at {server} have another fingerprint than given: sha256:{found}",
                hint="compare with what fleet serve printed; somebody may be in between",
                code="login.ca",
            )
        return str(same[0])
    if not sys.stdin.isatty():
        raise Forbidden(
            f"the controller at {server} is not known by this machine: sha256:{found}",
            hint="compare with what fleet serve printed, then: --ca-sha256 FINGERPRINT, or --ca-file FILE",
            code="login.ca",
        )
    print(f"This machine does not know the controller at {server}. Its authorities have the fingerprint")
    print(f"  sha256:{found}")
    print("fleet serve prints it at its start.")
    if not typer.confirm("Is it the same?"):
        raise Forbidden("the controller was not confirmed", hint="nothing was stored", code="login.ca")
    return pem


def _ask_token() -> str:
    """Ask on the terminal without showing it, or read the first line of the input."""
    if sys.stdin.isatty():
        return str(typer.prompt("API token", hide_input=True)).strip()
    line = sys.stdin.readline().strip()
    if not line:
        raise Invalid(
            "no token was given", hint="--token, FLEET_TOKEN, or on standard input", code="api.token"
        )
    return line


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise Unavailable(
            f"{path} cannot be read: {exc}", hint="a PEM file with certificates", code="controller.ca"
        ) from exc
