"""The certificate that the API shows, loaded again when its files change: no connection ends for it."""

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from fleet_cloud.errors import SettingsError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int], ...]


@dataclass
class ServedCertificate:
    """``context`` is what the server shakes hands with. To be used from the thread of its event loop."""

    certificate: Path
    key: Path
    context: ssl.SSLContext = field(init=False)
    _loaded: Stamp = ()

    def __post_init__(self) -> None:
        try:
            stamp = self._stamp()
            self.context = self._load()
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(
                f"the certificate {self.certificate} cannot be used with its key: {exc}",
                hint="both are PEM files that this user may read, the key without a passphrase",
                code="tls.certificate",
            ) from exc
        self._loaded = stamp

    async def reload_if_changed(self) -> None:
        """Take new files as soon as they fit together; until then the old ones stay in use."""
        try:
            stamp = self._stamp()
            if stamp == self._loaded:
                return
            self._load()  # a pair that does not fit would leave the live context with one half of it
            self.context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as exc:
            log.warning("the new certificate %s is not used yet: %s", self.certificate, exc)
            return
        self._loaded = stamp
        log.info("the certificate %s was loaded again", self.certificate)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        return context

    def _stamp(self) -> Stamp:
        """What tells one file from the one that replaced it."""
        found = [path.stat() for path in (self.certificate, self.key)]
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)


def _no_passphrase() -> str:
    """OpenSSL would ask for one on the terminal, and wait."""
    return ""
