"""Whom the broker lets in while it is told of everybody: a revocation does not wait, and is not undone."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet_cloud.services.admission import Admission
from fleet_shared.names import DeviceId, Digest
from tests.kit.doors import Door
from tests.kit.identity_world import IdentityWorld
from tests.kit.people import ADMIN

PI = DeviceId("pi-1")


@dataclass
class SlowDoor(Door):
    """It takes in who is there only when it is let go on, as a broker with many devices does."""

    asked: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        known = list(devices)
        self.asked.set()
        assert self.go.wait(20)
        super().sync(known)


def test_a_revocation_waits_for_no_sync_and_survives_it(local_identities: IdentityWorld) -> None:
    for name in ("pi-1", "pi-2"):
        local_identities.enrol(name)
    door = SlowDoor(inside=dict(local_identities.door.inside))
    local_identities.access = door
    services = local_identities.restart()
    syncing = threading.Thread(target=services.upkeep.turn)
    syncing.start()
    assert door.asked.wait(20)
    _, cut = services.revocation.revoke("pi-1", ADMIN)
    assert cut
    assert PI not in door.inside, "while the broker is told of everybody"
    door.go.set()
    syncing.join()
    assert set(door.inside) == {"pi-2"}
    assert not services.admission.stale


def test_without_a_door_nothing_is_told(local_identities: IdentityWorld) -> None:
    admission = Admission(local_identities.uow, None)
    assert not admission.enforced
    assert not admission.stale
    assert not admission.sync()
    assert not admission.revoke(PI)
