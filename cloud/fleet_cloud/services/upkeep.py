"""What keeps identities in order while nobody looks: certificates that end, lists that grow old, a broker
that was away. Every turn does all of it again, and changes nothing where all is well."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.errors import Unavailable
from fleet_cloud.services.admission import Admission
from fleet_cloud.services.ports import Authorities, AuthorityReleases, Clock, RegisteredDevice, TlsFolder
from fleet_cloud.services.revocation import Revocation

log = logging.getLogger(__name__)

CONTROLLER: Final = Actor("controller", Role.ADMIN, "start")
TURN_S: Final = 60.0
SOON_S: Final = 1.0
"""While the broker has not heard of a change."""
ENDED_KEPT_MS: Final = 30 * 86_400_000
NAMED: Final = 10


@dataclass
class Upkeep:
    """``connected_ms``: since when the broker is connected, none while it is away. ``update_broker_files``
    gives a broker with files of its own the newest, and may raise `Unavailable`."""

    clock: Clock
    authorities: Authorities
    releases: AuthorityReleases
    tls: TlsFolder
    revocation: Revocation
    admission: Admission
    update_broker_files: Callable[[], None]
    connected_ms: Callable[[], int | None]
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _released: Sequence[str] = ()
    _synced_ms: int | None = None
    _due_s: float = 0.0
    _complaint: str = ""

    def start(self) -> None:
        """What is done once, before anybody is let in."""
        for device in self.revocation.reconcile(CONTROLLER):
            log.warning("%s was revoked, and the database had forgotten it: it is revoked again", device)
        strangers = self.revocation.strangers()
        if strangers:
            log.warning(
                "the database does not know %d devices with a certificate of this controller: is it a "
                "backup? fleet device readmit lets them in again: %s",
                len(strangers),
                _name(strangers),
            )
        self.turn()

    def look(self) -> float:
        """Take a turn when it is time, and at once when the broker is back or has not heard of something: it
        may let in who was revoked meanwhile. Return the seconds until the next look."""
        if self._is_behind() or time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + self.turn()
        return SOON_S

    def turn(self) -> float:
        """Return the seconds until the next one."""
        with self._lock:
            now_ms = self.clock.now_ms()
            self._sync()
            self.tls.renew(now_ms)
            self.revocation.write_list()
            told = self._update_broker()
            if told:
                self._release()
            with self.revocation.uow.begin() as transaction:
                transaction.certificates.remove_ended(now_ms - ENDED_KEPT_MS)
        return TURN_S if told and not self.admission.stale else SOON_S

    def _update_broker(self) -> bool:
        """Give the broker its files; tell whether it has them."""
        try:
            self.update_broker_files()
        except Unavailable as exc:
            if exc.code != self._complaint:
                log.warning("the broker does not use the newest files: %s (%s)", exc.message, exc.code)
            self._complaint = exc.code
            return False
        self._complaint = ""
        return True

    def _release(self) -> None:
        """Let devices know of the authorities, once the broker believes them: what they renew is of the
        newest at once."""
        pems = self.authorities.pems
        if pems != self._released:
            self.releases.release_authorities(pems)
            self._released = pems

    def _sync(self) -> None:
        """A broker that was away may have forgotten everything."""
        connected_ms = self.connected_ms()
        if self._is_behind() and self.admission.sync():
            self._synced_ms = connected_ms

    def _is_behind(self) -> bool:
        news = self.admission.stale or self.connected_ms() != self._synced_ms
        return self.admission.enforced and news


def _name(devices: Sequence[RegisteredDevice]) -> str:
    names = ", ".join(entry.device for entry in devices[:NAMED])
    return names if len(devices) <= NAMED else f"{names} and {len(devices) - NAMED} more"
