"""Mosquitto's copies of the TLS files, and the command that makes it read them again.

Mosquitto 2.0 reads authorities, certificate and revocation list again on SIGHUP, all at once. What it cannot
read then is dangerous: a broken revocation list lets every revoked device in, a key that does not fit keeps
everybody out. So files are judged here before they take the place of older ones.
"""

import shlex
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet_cloud.errors import Unavailable
from fleet_shared.durable import write_durably

COMMAND_TIMEOUT_S: Final = 10.0
SHARED_MODE: Final = 0o640
"""Mosquitto reads them by its group."""


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """PEM files of the broker's side: whom it believes, what was revoked, who it is."""

    authorities: Path
    revoked: Path
    certificate: Path
    key: Path


def files_in(folder: Path) -> BrokerFiles:
    """Return where the broker has its copies below ``folder``."""
    return BrokerFiles(folder / "ca.pem", folder / "crl.pem", folder / "server.pem", folder / "server.key")


class Reload:
    """Called after files may have changed: brings the copies up to date, then runs ``command``. Without a
    command somebody else tells the broker, such as a unit that watches the folder."""

    def __init__(self, source: BrokerFiles, copies: BrokerFiles, command: str) -> None:
        self._source, self._copies, self._command = source, copies, shlex.split(command)
        self._due = True
        """Also at the start: the process before may have ended between copying and telling."""
        self._turn = threading.Lock()

    def __call__(self) -> None:
        """Raises `Unavailable`: ``broker.files`` with the older copies untouched, ``broker.reload`` when
        the command failed; the next call tries again."""
        with self._turn:
            self._due = copy_files(self._source, self._copies) or self._due
            if self._due and self._command:
                _run(self._command)
            self._due = False


def copy_files(source: BrokerFiles, copies: BrokerFiles) -> bool:
    """Replace those that differ; tell whether any did. The revocation list is first: a failure in the middle
    must not leave that one old. Raises `Unavailable` (``broker.files``)."""
    check_files(source)
    changed = False
    try:
        for origin, copy in _pairs(source, copies).items():
            content = origin.read_bytes()
            if not copy.exists() or copy.read_bytes() != content:
                write_durably(copy, content, mode=SHARED_MODE)
                changed = True
    except OSError as exc:
        raise Unavailable(
            f"the broker's TLS files cannot be written: {exc}",
            hint="broker_files is a folder that the controller can write and the broker's group can read",
            code="broker.files",
        ) from exc
    return changed


def check_files(files: BrokerFiles) -> None:
    """Raise `Unavailable` (``broker.files``) for what a broker could not use: where an authority has no
    revocation list, nobody of it gets in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = files.authorities
    try:
        for name in (files.authorities, files.revoked):
            context.load_verify_locations(name)
        name = files.certificate
        context.load_cert_chain(files.certificate, files.key)
    except OSError as exc:
        raise _unusable(name, str(exc)) from exc
    found = context.cert_store_stats()
    if found["crl"] < found["x509_ca"]:
        raise _unusable(files.revoked, f"{found['crl']} revocation lists for {found['x509_ca']} authorities")


def _unusable(file: Path, reason: str) -> Unavailable:
    return Unavailable(
        f"the broker's TLS file {file} cannot be used: {reason}",
        hint="it is written by the controller: is its data folder whole?",
        code="broker.files",
    )


def _pairs(source: BrokerFiles, copies: BrokerFiles) -> Mapping[Path, Path]:
    return {
        source.revoked: copies.revoked,
        source.authorities: copies.authorities,
        source.key: copies.key,
        source.certificate: copies.certificate,
    }


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _not_told(command, str(exc)) from exc
    if done.returncode != 0:
        raise _not_told(command, done.stderr.decode(errors="replace").strip()[-300:])


def _not_told(command: list[str], reason: str) -> Unavailable:
    return Unavailable(
        f"the broker could not be told to read its TLS files again: {reason}",
        hint=f"broker_reload runs {shlex.join(command)!r} as the controller's user: may it?",
        code="broker.reload",
    )
