"""HTTP(S) to a controller that this device does not know yet: only the token says by which authority.

The authorities are fetched from whoever answers, and believed when their digest is the token's: then the
secret is sent over a connection that is proven by them, and to nobody else.
"""

import re
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import urllib3

from fleet_agent.errors import EnrolmentError
from fleet_agent.floor import DeviceTime
from fleet_agent.tls import DatesError, https_context, stranger_context
from fleet_shared.limits import ENROLMENT_BYTES
from fleet_shared.names import Digest, digest_of

REQUEST_TIMEOUT_S: Final = 20.0
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class UnreachableController(EnrolmentError):
    """Worth another try."""

    code = "controller.unreachable"


@dataclass
class ControllerHttp:
    """``ca_sha256``: of the token. ``now`` gives the device's time."""

    url: str
    ca_sha256: Digest
    now: Callable[[], DeviceTime]
    _pool: urllib3.PoolManager | None = field(default=None)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body; raise `EnrolmentError`, `UnreachableController`."""
        if self._pool is None:
            self._pool = self._open()
        return self._request(self._pool, "POST", path, body)

    def _open(self) -> urllib3.PoolManager:
        if not self.url.startswith("https:"):
            return urllib3.PoolManager()
        stranger = urllib3.PoolManager(ssl_context=stranger_context(), cert_reqs="CERT_NONE")
        with warnings.catch_warnings(), stranger:
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            status, content = self._request(stranger, "GET", f"/api/v1/authorities?sha256={self.ca_sha256}")
        # One that does not tell them may still have a certificate that the system believes.
        pem = pick_authorities(content, self.ca_sha256) if status == 200 else ""
        return urllib3.PoolManager(ssl_context=https_context(pem, self.now))

    def _request(
        self, pool: urllib3.PoolManager, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        try:
            with pool.request(
                method, self.url + path, body=body, headers={"Content-Type": "application/json"},
                retries=False, redirect=False, timeout=REQUEST_TIMEOUT_S, preload_content=False,
            ) as response:  # fmt: skip
                return response.status, response.read(ENROLMENT_BYTES + 1)
        except urllib3.exceptions.SSLError as exc:
            raise _explain(self.url, exc) from exc
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise UnreachableController(
                f"the controller at {self.url} cannot be reached: {exc}",
                hint="is it running, and is the address right? --wait SECONDS keeps trying",
            ) from exc


def pick_authorities(content: bytes, sha256: Digest) -> str:
    """Return what of ``content`` (PEM) the token names: all of it, or one certificate. Raises
    `EnrolmentError` (``enrol.ca.mismatch``)."""
    text = content.decode("utf-8", "replace")
    for found in (text, *_CERTIFICATE.findall(text)):
        if digest_of(found.encode()) == sha256:
            return str(found)
    raise EnrolmentError(
        "the controller's certificate authority is not the one that the token names",
        hint="check the address; if the controller was set up anew, make a new token there",
        code="enrol.ca.mismatch",
    )


def _explain(url: str, exc: urllib3.exceptions.SSLError) -> EnrolmentError:
    cause = exc.args[0] if exc.args else exc
    if isinstance(cause, DatesError):
        hint = "is this device's clock right? Then the controller's certificate must be renewed"
    elif not isinstance(cause, ssl.SSLCertVerificationError):
        hint = "what answers there speaks no HTTPS: are address and port right?"
    else:
        hint = "is the address right? Its name must stand in the controller's certificate"
    return EnrolmentError(f"the controller at {url} is not trusted: {cause}", hint=hint, code="enrol.tls")
