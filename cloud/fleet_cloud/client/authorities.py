"""By which certificates a controller is known, when the system does not know them."""

import re
import ssl
from pathlib import Path
from typing import Final

import httpx

from fleet_cloud.errors import Invalid, Unavailable
from fleet_cloud.masking import mask_url

TIMEOUT_S: Final = 20.0
BYTES_MAX: Final = 256 * 1024
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def open_authorities(ca_file: str) -> ssl.SSLContext:
    """Return what believes these authorities (PEM) and no other."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise Invalid(
            f"the certificates in {ca_file} cannot be read: {exc}",
            hint="a PEM file; after fleet login URL none has to be named",
            code="controller.ca",
        ) from exc


def open_certificate(file: str) -> ssl.SSLContext:
    """Return what believes the first certificate in ``file`` (PEM) and no other, whatever name the server is
    called by: on its own machine a controller is reached by an address that its certificate may not have."""
    try:
        found = _CERTIFICATE.search(Path(file).read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # this one certificate counts, not who else was given one
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=found[0] if found else "")
    except (OSError, ValueError, ssl.SSLError) as exc:
        raise Invalid(
            f"the certificate in {file} cannot be read: {exc}",
            hint="it is the controller's tls_certificate; sign in instead: fleet login URL",
            code="controller.ca",
        ) from exc
    return context


def fetch_authorities(server: str) -> str:
    """Return the authorities (PEM) that ``server`` names, over a connection that proves nothing: they count
    once their sha256 was compared with one that came another way. Nothing secret is sent."""
    try:
        # The answer is judged by its digest, which a person or an option has to vouch for.
        with httpx.Client(verify=False, timeout=TIMEOUT_S) as http:  # noqa: S501
            answer = http.get(f"{server}/api/v1/authorities")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(
            f"the controller at {mask_url(server)} cannot be reached: {exc}",
            hint="is it running, and is the address right?",
            code="controller.unreachable",
        ) from exc
    if answer.status_code != 200 or len(answer.content) > BYTES_MAX or "BEGIN CERTIFICATE" not in answer.text:
        raise Unavailable(
            f"what answers at {mask_url(server)} names no authorities",
            hint="is it a Fleet controller?",
            code="controller.unknown",
        )
    return answer.text
