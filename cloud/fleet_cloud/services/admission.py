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
from fleet_shared.names import DeviceId

log = logging.getLogger(__name__)


class Admission:
    """``access`` is none for a broker whose doors are not Fleet's. May be used from many threads.

    Of a device the broker is told what the database says at that moment, one device at a time: of two
    changes at once, the one that was committed last counts, whichever is told first. A change waits for no
    sync, which may take long: what changes meanwhile is told again after it, since it may have been told of
    the time before."""

    def __init__(self, uow: UnitOfWork, access: BrokerAccess | None) -> None:
        self._uow, self._access = uow, access
        self._turn, self._syncing = threading.Lock(), threading.Lock()
        self._changed: set[DeviceId] = set()
        """Since the last sync began."""
        self._untold: set[DeviceId] = set()
        self._stale = True
        self._complaint = ""

    @property
    def enforced(self) -> bool:
        return self._access is not None

    @property
    def stale(self) -> bool:
        """Whether the broker may still let in whom the database does not know."""
        return self.enforced and self._stale

    def tell(self, device: DeviceId) -> bool:
        """Tell the broker of a device that was changed in the database; tell whether it has heard."""
        with self._turn:
            self._changed.add(device)
            self._untold.add(device)
            heard = self._try(lambda access: self._tell(access, device), f"of a change of {device}")
            if heard:
                self._untold.discard(device)
        return heard

    def sync(self) -> bool:
        """Tell the broker of all devices; tell whether it has heard."""
        with self._syncing:
            return self._try(self._sync, "who may come in")

    def _sync(self, access: BrokerAccess) -> None:
        with self._turn:
            self._changed = set(self._untold)
        with self._uow.read() as transaction:
            known = [(d.id, d.public_key_sha256) for d in all_devices(transaction) if d.revoked_ms is None]
        access.sync(known)
        with self._turn:
            for device in self._changed:
                self._tell(access, device)
            self._untold.clear()
            self._stale = False

    def _tell(self, access: BrokerAccess, device: DeviceId) -> None:
        with self._uow.read() as transaction:
            known = transaction.devices.get(device)
        if known is None or known.revoked_ms is not None:
            access.revoke(device)
        else:
            access.admit(device, known.public_key_sha256)

    def _try(self, act: Callable[[BrokerAccess], None], what: str) -> bool:
        """Whatever keeps the broker from hearing, it is told again."""
        if self._access is None:
            return False
        try:
            act(self._access)
        except Unavailable as exc:
            self._stale = True
            self._complain(f"{what}: {exc.message} ({exc.code})")
            return False
        except BaseException:
            self._stale = True
            raise
        self._complaint = ""
        return True

    def _complain(self, why: str) -> None:
        """Once, however often it is tried."""
        if why != self._complaint:
            log.warning("the broker cannot be told %s", why)
        self._complaint = why
