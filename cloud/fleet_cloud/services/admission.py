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
    """``access`` is none for a broker whose doors are not Fleet's. May be used from many threads. A change is
    told after it was committed, and waits for no sync, which may take long: what changes meanwhile is told
    again after it, since it may have been told of the time before."""

    def __init__(self, uow: UnitOfWork, access: BrokerAccess | None) -> None:
        self._uow, self._access = uow, access
        self._turn, self._syncing = threading.Lock(), threading.Lock()
        self._changed: dict[DeviceId, Digest | None] = {}
        """Since the last sync began: the key of each, none for who was revoked."""
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
        return self._change(device, key)

    def revoke(self, device: DeviceId) -> bool:
        """Cut a device off; tell whether the broker has done it."""
        return self._change(device, None)

    def sync(self) -> bool:
        """Tell the broker of all devices; tell whether it has heard."""
        if self._access is None:
            return False
        with self._syncing:
            return self._try(self._sync, "who may come in")

    def _change(self, device: DeviceId, key: Digest | None) -> bool:
        with self._turn:
            self._changed[device] = key
            return self._try(lambda access: _tell(access, device, key), f"of a change of {device}")

    def _sync(self, access: BrokerAccess) -> None:
        with self._turn:
            self._changed.clear()
        with self._uow.read() as transaction:
            known = [(d.id, d.public_key_sha256) for d in all_devices(transaction) if d.revoked_ms is None]
        access.sync(known)
        with self._turn:
            for device, key in self._changed.items():
                _tell(access, device, key)
            self._stale = False

    def _try(self, act: Callable[[BrokerAccess], None], what: str) -> bool:
        if self._access is None:
            return False
        try:
            act(self._access)
        except Unavailable as exc:
            self._stale = True
            log.warning("the broker cannot be told %s: %s (%s)", what, exc.message, exc.code)
            return False
        return True


def _tell(access: BrokerAccess, device: DeviceId, key: Digest | None) -> None:
    if key is None:
        access.revoke(device)
    else:
        access.admit(device, key)
