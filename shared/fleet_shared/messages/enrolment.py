"""Enrolment over HTTP: ``POST /api/v1/enrolments``, the only unauthenticated write.

Idempotent per (token, public key): a lost answer is asked for again with the same request.
"""

from typing import ClassVar

import msgspec

from fleet_shared.limits import ENROLMENT_BYTES
from fleet_shared.names import DeviceId
from fleet_shared.wire import Document


class EnrolRequest(Document, frozen=True, kw_only=True):
    """``csr_pem``: PKCS#10 whose CN is ``device``, signed by the key made on the device."""

    LIMIT_BYTES: ClassVar[int] = ENROLMENT_BYTES

    secret: str
    device: DeviceId
    csr_pem: str


class BrokerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where devices reach the broker. No host: the host of the controller's URL. ``mqtt5`` is only
    where to begin: a device tries the other version when the broker does not answer."""

    port: int
    host: str | None = None
    tls: bool = False
    mqtt5: bool = True
    username: str | None = None
    password: str | None = None


class EnrolReply(Document, frozen=True, kw_only=True):
    """``root_json`` is the TUF root whose sha256 is in the token, as text; ``metadata_path`` and
    ``targets_path`` are below the controller's URL."""

    LIMIT_BYTES: ClassVar[int] = ENROLMENT_BYTES

    device: DeviceId
    certificate_pem: str
    ca_pem: str
    root_json: str
    metadata_path: str
    targets_path: str
    topic_root: str
    broker: BrokerAddress
