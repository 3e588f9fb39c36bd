"""TLS contexts from PEM files that are replaced while Fleet runs: on renewal, and when the CA is rotated.

Each connection gets a context of its own, from the files as they are then; connections that live keep
theirs. Where files do not fit together, or are gone, the last that did are used on. TLS 1.2 at least. Nothing
can be resumed, since no two connections share a context: each shows its certificate. That costs a millisecond
or two, about what the handshake costs anyway.
"""

import logging
import socket
import ssl
from pathlib import Path
from typing import Final, Protocol

from fleet_cloud.errors import SettingsError

log = logging.getLogger(__name__)

OLDEST: Final = ssl.TLSVersion.TLSv1_2


class Files(Protocol):
    """Whom one side believes, and who it is."""

    @property
    def authorities(self) -> Path: ...

    @property
    def certificate(self) -> Path: ...

    @property
    def key(self) -> Path: ...


class RenewedTls:
    """Contexts for one side. Raises `SettingsError` (``tls.files``) when there is none to begin with."""

    def __init__(self, files: Files, *, server: bool) -> None:
        self._files, self._server = files, server
        self._last = self._load()
        self._complaint = ""

    def make_context(self) -> ssl.SSLContext:
        """Return the context of the next connection."""
        try:
            self._last = self._load()
            self._complaint = ""
        except SettingsError as exc:
            if str(exc) != self._complaint:
                log.warning("%s: those from before are used on", exc)
            self._complaint = str(exc)
        return self._last

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = OLDEST
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        if self._server:
            context.num_tickets = 0
        try:
            context.load_verify_locations(self._files.authorities)
            context.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ValueError) as exc:
            raise SettingsError(
                f"the TLS files beside {self._files.certificate} cannot be used: {exc}",
                hint="certificate, key and authorities must be there, and fit together",
                code="tls.files",
            ) from exc
        return context


class RenewedClientContext(ssl.SSLContext):
    """A client's context that takes the files as they are at each connection, for a library that asks for
    one context for ever."""

    _renewed: RenewedTls

    @classmethod
    def of(cls, files: Files) -> "RenewedClientContext":
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._renewed = RenewedTls(files, server=False)
        return context

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """Return a connection whose handshake is done, or raise with the socket closed: who asks forgets to
        close it."""
        del do_handshake_on_connect
        wrapped = self._renewed.make_context().wrap_socket(
            sock, server_side, False, suppress_ragged_eofs, server_hostname, session
        )
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped
