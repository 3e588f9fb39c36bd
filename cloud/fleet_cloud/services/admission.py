"""Whom the broker lets in, kept equal to whom the database knows.

A change is told to the broker at once. While it is away, the change waits, and everything is told anew when
it is back: what a broker remembers of an earlier time counts for nothing.
"""

import logging
import threading
from collections.abc import Callable

from fleet_cloud.errors import Unavailable
from fleet_cloud.services.devices import all_devices
from fleet_cloud.services.ports import BrokerAccess, UnitOfWork
from fleet_shared.names import DeviceId, Digest

log = logging.getLogger(__name__)


class Admission:
    """``access`` is none for a broker whose doors are not Fleet's. May be used from many threads: what is
    told comes from the database after the change was committed, one telling at a time."""

    def __init__(self, uow: UnitOfWork, access: BrokerAccess | None) -> None:
        self._uow, self._access = uow, access
        self._lock = threading.Lock()
        self._stale = True

    @property
    def enforced(self) -> bool:
        return self._access is not None

    @property
    def stale(self) -> bool:
        """Whether the broker may still let in whom the database does not know."""
        return self.enforced and self._stale

    def admit(self, device: DeviceId, key: Digest) -> bool:
        """Let a device in with this key; tell whether the broker has heard of it."""
        return self._tell(lambda access: access.admit(device, key), f"that {device} may come in")

    def revoke(self, device: DeviceId) -> bool:
        """Cut a device off; tell whether the broker has done it."""
        return self._tell(lambda access: access.revoke(device), f"that {device} is revoked")

    def sync(self) -> bool:
        """Tell the broker of all devices; tell whether it has heard."""
        return self._tell(self._sync, "who may come in")

    def _sync(self, access: BrokerAccess) -> None:
        with self._uow.read() as transaction:
            known = [(d.id, d.public_key_sha256) for d in all_devices(transaction) if d.revoked_ms is None]
        access.sync(known)
        self._stale = False

    def _tell(self, tell: Callable[[BrokerAccess], None], what: str) -> bool:
        if self._access is None:
            return False
        with self._lock:
            try:
                tell(self._access)
            except Unavailable as exc:
                self._stale = True
                log.warning("the broker cannot be told %s: %s (%s)", what, exc.message, exc.code)
                return False
        return True
