"""What the demo needs to play a stranger and a thief."""

import ssl
from pathlib import Path

from fleet_cloud.adapters.broker.identity import parse_identity
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.services.ports import Trust


def open_trust(folder: Path) -> Trust:
    """Return the trust of a lab of its own, made in ``folder``: a stranger's."""
    return ControllerTrust(folder)


def read_certificate_name(file: Path) -> str:
    """Return whom a certificate (PEM) names: a thief takes that name."""
    identity = parse_identity(ssl.PEM_cert_to_DER_cert(file.read_text()))
    return identity.name if identity else ""
