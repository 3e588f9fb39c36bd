"""Whom the broker lets in while it is told of everybody: a revocation does not wait, and is not undone."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from fleet_cloud.services.admission import Admission
from fleet_shared.messages.enrolment import EnrolRequest
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


def test_the_change_that_was_committed_last_counts_whoever_tells_first(
    local_identities: IdentityWorld,
) -> None:
    """A token for a new key, and a revocation, at once: the broker hears of the enrolment last."""
    local_identities.enrol()
    services = local_identities.identities

    def overtake() -> None:
        """Called between the commit of the enrolment and the word to the broker."""
        services.revocation.revoke(PI, ADMIN)

    secret = local_identities.token(device="pi-1")
    slow = replace(services.enrolling, write_revocations=overtake)
    request = EnrolRequest(secret=secret, device=PI, csr_pem=local_identities.csr("pi-1", new_key=True))
    slow.enrol(request)
    device = local_identities.device()
    assert device is not None
    assert device.revoked_ms is not None
    assert local_identities.door.inside == {}


def test_without_a_door_nothing_is_told(local_identities: IdentityWorld) -> None:
    admission = Admission(local_identities.uow, None)
    assert not admission.enforced
    assert not admission.stale
    assert not admission.sync()
    assert not admission.tell(PI)


@dataclass
class FailingDoor(Door):
    """It fails by a defect until it is mended."""

    mended: bool = False

    def revoke(self, device: DeviceId) -> None:
        if not self.mended:
            raise ValueError("the broker says something else")
        super().revoke(device)


def test_a_door_that_fails_in_any_way_is_told_again(local_identities: IdentityWorld) -> None:
    """Not only a broker that is away: who was revoked must not stay in."""
    local_identities.enrol()
    local_identities.access = door = FailingDoor(inside=dict(local_identities.door.inside))
    services = local_identities.restart()
    services.upkeep.look()
    with pytest.raises(ValueError, match="something else"):
        services.revocation.revoke("pi-1", ADMIN)
    assert services.admission.stale
    door.mended = True
    services.upkeep.look()
    assert door.inside == {}
