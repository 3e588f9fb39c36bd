"""Revoked, readmitted, forgotten by a restored database: who is let in, and what the broker is told."""

import errno
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fleet_cloud.domain.device import Device
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.errors import Conflict, Forbidden, NotFound
from fleet_cloud.services.observe import Observe
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Reported
from fleet_shared.messages.telemetry import Event
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.cloud.domain.test_rules import FACTS
from tests.kit.databases import sqlite_in
from tests.kit.identity_world import DAY_MS, IdentityWorld, identity_world, serial_of
from tests.kit.parts import PI, Parts, batch
from tests.kit.people import ADMIN
from tests.kit.waiting import wait_for


def test_a_revoked_device_is_cut_off_and_its_certificates_are_listed(identities: IdentityWorld) -> None:
    first = identities.enrol()
    identities.clock.at_ms += DAY_MS
    renewed = identities.identities.enrolling.renew(PI, identities.csr("pi-1"))
    other = identities.enrol("pi-2")
    device, cut = identities.identities.revocation.revoke("pi-1", ADMIN)
    assert cut
    assert device.revoked_ms == identities.clock.at_ms
    assert identities.door.cut == [PI]
    assert set(identities.door.inside) == {"pi-2"}
    assert identities.listed() == {serial_of(first.certificate_pem), serial_of(renewed)}
    assert serial_of(other.certificate_pem) not in identities.listed()
    again, _ = identities.identities.revocation.revoke("pi-1", ADMIN)
    assert again == device
    assert identities.actions().count("device.revoke pi-1") == 1


def test_whoever_revokes_while_the_broker_is_away_is_told_so_and_it_hears_of_it_later(
    local_identities: IdentityWorld,
) -> None:
    local_identities.enrol()
    local_identities.identities.upkeep.turn()
    local_identities.door.away = True
    _, cut = local_identities.identities.revocation.revoke("pi-1", ADMIN)
    assert not cut
    assert PI in local_identities.door.inside
    assert local_identities.identities.upkeep.turn() < 10, "it is tried again soon"
    local_identities.door.away = False
    assert local_identities.identities.upkeep.turn() > 10
    assert local_identities.door.inside == {}


def test_a_list_that_cannot_be_written_keeps_no_session_alive(
    local_identities: IdentityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_identities.enrol()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(local_identities.tls, "write_revocations", full)
    with pytest.raises(OSError, match="no space"):
        local_identities.identities.revocation.revoke("pi-1", ADMIN)
    assert local_identities.door.cut == [PI]


def test_whoever_read_the_list_before_a_revocation_does_not_write_it_after(
    local_identities: IdentityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop brings the list up to date at any time, also while somebody revokes."""
    serial = serial_of(local_identities.enrol().certificate_pem)
    local_identities.identities.upkeep.turn()
    write, revocation = local_identities.tls.write_revocations, local_identities.identities.revocation
    revoking = threading.Thread(target=revocation.revoke, args=("pi-1", ADMIN))

    def overtaken(revoked: Sequence[tuple[str, int]], at_ms: int) -> None:
        """What was read is written only when the revocation is done, or waits for us."""
        monkeypatch.setattr(local_identities.tls, "write_revocations", write)
        revoking.start()
        wait_for("the revocation to be committed", lambda: _is_revoked(local_identities))
        revoking.join(0.5)
        write(revoked, at_ms)

    monkeypatch.setattr(local_identities.tls, "write_revocations", overtaken)
    revocation.write_list()
    revoking.join()
    assert local_identities.listed() == {serial}


def _is_revoked(world: IdentityWorld) -> bool:
    device = world.device()
    return device is not None and device.revoked_ms is not None


def test_a_broker_that_is_away_is_complained_of_once(
    local_identities: IdentityWorld, caplog: pytest.LogCaptureFixture
) -> None:
    upkeep = local_identities.identities.upkeep
    for _ in range(2):
        local_identities.door.away = True
        for _ in range(3):
            upkeep.turn()
            upkeep.admission.sync()
        local_identities.door.away = False
        local_identities.connected_ms = 2
        upkeep.look()
    complaints = [line for line in caplog.messages if "cannot be told" in line]
    assert len(complaints) == 2, complaints


def test_a_broker_that_comes_back_is_told_at_the_next_look(local_identities: IdentityWorld) -> None:
    """Not a minute later: whoever was revoked meanwhile would be in for so long."""
    local_identities.enrol()
    upkeep = local_identities.identities.upkeep
    upkeep.look()
    local_identities.door.away = True
    local_identities.identities.revocation.revoke("pi-1", ADMIN)
    local_identities.door.away = False
    assert upkeep.look() <= 2
    assert local_identities.door.inside == {}
    syncs = local_identities.door.syncs
    upkeep.look()
    assert local_identities.door.syncs == syncs, "nothing is due"
    local_identities.connected_ms = 2
    upkeep.look()
    assert local_identities.door.syncs == syncs + 1, "it may have forgotten everything"


def test_a_token_for_a_device_that_is_older_than_its_revocation_lets_nobody_in(
    identities: IdentityWorld,
) -> None:
    identities.enrol()
    secret = identities.token(device="pi-1")
    identities.clock.at_ms += 1000
    identities.identities.revocation.revoke("pi-1", ADMIN)
    with pytest.raises(Forbidden) as caught:
        identities.enrol(secret=secret, new_key=True)
    assert caught.value.code == "device.revoked"
    identities.clock.at_ms += 1000
    identities.enrol(secret=identities.token(device="pi-1"), new_key=True)
    assert set(identities.door.inside) == {"pi-1"}


def test_a_broker_that_was_away_is_told_everything_anew(local_identities: IdentityWorld) -> None:
    local_identities.enrol()
    local_identities.identities.upkeep.turn()
    syncs = local_identities.door.syncs
    local_identities.identities.upkeep.turn()
    assert local_identities.door.syncs == syncs, "nothing has changed"
    local_identities.door.inside = {DeviceId("long-gone"): local_identities.door.inside[PI]}
    local_identities.connected_ms = 2
    local_identities.identities.upkeep.turn()
    assert set(local_identities.door.inside) == {PI}


def test_a_revocation_that_was_committed_before_a_crash_reaches_list_and_broker(
    identities: IdentityWorld,
) -> None:
    issued = identities.enrol()
    identities.identities.upkeep.turn()
    with identities.uow.begin() as transaction:  # all that a process did that was killed right then
        known = transaction.devices.lock(PI)
        assert known is not None
        transaction.devices.put(replace(known, revoked_ms=1))
        transaction.certificates.revoke(PI, 1)
    identities.restart().upkeep.start()
    assert identities.door.inside == {}
    assert identities.listed() == {serial_of(issued.certificate_pem)}


def test_a_readmitted_device_comes_in_with_its_old_key(identities: IdentityWorld) -> None:
    identities.enrol()
    inside = dict(identities.door.inside)
    identities.identities.revocation.revoke("pi-1", ADMIN)
    identities.identities.revocation.readmit("pi-1", ADMIN)
    assert identities.door.inside == inside
    assert identities.listed() == set()
    assert identities.identities.enrolling.renew(PI, identities.csr("pi-1"))
    identities.identities.revocation.readmit("pi-1", ADMIN)
    assert identities.actions().count("device.readmit pi-1") == 1
    identities.restart().upkeep.start()
    assert identities.door.inside == inside


def test_a_revoked_device_gets_in_by_no_token_but_one_that_was_made_for_it(identities: IdentityWorld) -> None:
    secret = identities.token()
    identities.enrol(secret=secret)
    identities.identities.revocation.revoke("pi-1", ADMIN)
    for given in (secret, identities.token()):
        with pytest.raises(Forbidden) as caught:
            identities.enrol(secret=given)
        assert caught.value.code == "device.revoked"
    again = identities.token(device="pi-1")
    identities.enrol(secret=again, new_key=True)
    assert PI in identities.door.inside
    identities.identities.revocation.revoke("pi-1", ADMIN)
    with pytest.raises(Forbidden) as caught:
        identities.enrol(secret=again)
    assert caught.value.code == "device.revoked", "a token that was used lifts no later revocation"


def test_nobody_is_revoked_or_readmitted_who_never_was_here(local_identities: IdentityWorld) -> None:
    for act in (
        local_identities.identities.revocation.revoke,
        local_identities.identities.revocation.readmit,
    ):
        with pytest.raises(NotFound) as caught:
            act("pi-9", ADMIN)
        assert caught.value.code == "device.unknown"


class Backup:
    """A database file of yesterday, and a controller that starts with it today."""

    def __init__(self, folder: Path) -> None:
        self._file, self._copy = folder / "fleet.db", folder / "backup.db"

    def take(self) -> None:
        self._move(self._file, self._copy)

    def restore(self) -> None:
        self._move(self._copy, self._file)

    def _move(self, source: Path, target: Path) -> None:
        here, there = sqlite3.connect(source), sqlite3.connect(target)
        here.backup(there)
        here.close()
        there.close()


def test_a_database_restored_from_a_backup_forgets_neither_revocations_nor_keys(tmp_path: Path) -> None:
    backup = Backup(tmp_path)
    with identity_world(sqlite_in(tmp_path), tmp_path) as world:
        spent = world.token(uses=1)
        for name in ("pi-1", "pi-2"):
            world.enrol(name)
        backup.take()
        world.identities.revocation.revoke("pi-1", ADMIN)
        world.enrol("pi-2", world.token(device="pi-2"), new_key=True)
        today = world.enrol("pi-3", spent)
        world.enrol("pi-4")
        world.identities.revocation.revoke("pi-4", ADMIN)
    backup.restore()
    with identity_world(sqlite_in(tmp_path), tmp_path) as restored:
        restored.keys = {**world.keys}
        restored.identities.upkeep.start()
        revoked = restored.device("pi-1")
        assert revoked is not None
        assert revoked.revoked_ms is not None
        assert PI not in restored.door.inside
        assert [entry.device for entry in restored.identities.revocation.strangers()] == ["pi-2", "pi-3"]
        assert "pi-3" not in restored.door.inside
        with pytest.raises(Conflict) as caught:  # a token that is unused again, to the restored database
            restored.enrol("pi-3", spent, new_key=True)
        assert caught.value.code == "enrol.device.exists"
        restored.keys = {**world.keys}
        for name in ("pi-2", "pi-3"):
            readmitted = restored.identities.revocation.readmit(name, ADMIN)
            assert restored.door.inside[readmitted.id] == readmitted.public_key_sha256
            assert restored.identities.enrolling.renew(readmitted.id, restored.csr(name))
        assert restored.identities.revocation.strangers() == []
        restored.identities.revocation.revoke("pi-3", ADMIN)
        assert serial_of(today.certificate_pem) in restored.listed()
        restored.identities.revocation.revoke("pi-4", ADMIN)
        gone = restored.device("pi-4")
        assert gone is not None
        assert gone.revoked_ms is not None


def test_a_stranger_can_be_revoked_before_anybody_readmits_it(local_identities: IdentityWorld) -> None:
    issued = local_identities.enrol()
    stranger = local_identities.identities.revocation.register.get(PI)
    assert stranger is not None
    local_identities.identities.revocation.register.put(
        replace(stranger, device=DeviceId("pi-7"), serial="7f")
    )
    local_identities.identities.revocation.revoke("pi-7", ADMIN)
    assert local_identities.listed() == {0x7F}
    assert serial_of(issued.certificate_pem) not in local_identities.listed()
    assert local_identities.identities.revocation.strangers() == []


def test_what_a_revoked_device_says_is_not_listened_to(local_identities: IdentityWorld) -> None:
    """A broker whose doors are not Fleet's lets it speak."""
    local_identities.enrol()
    observe = Observe(local_identities.uow, local_identities.clock, Topics())
    observe.presence(PI, Presence(session="s", online=True))
    local_identities.identities.revocation.revoke("pi-1", ADMIN)
    assert not _online(local_identities.device())
    observe.presence(PI, Presence(session="s2", online=True))
    observe.reported(PI, Reported(session="s2", facts=FACTS))
    assert observe.telemetry(PI, batch(Event(seq=1, boot_id="b", boot_ms=1, name="e"))) == (None, False)
    device = local_identities.device()
    assert device is not None
    assert (device.online, device.session, device.reported) == (False, None, None)


def _online(device: Device | None) -> bool:
    assert device is not None
    return device.online


def revoke(parts: Parts, name: str = PI) -> None:
    with parts.uow.begin() as transaction:
        device = transaction.devices.lock(DeviceId(name))
        assert device is not None
        transaction.devices.put(replace(device, revoked_ms=1))


def test_pushes_pass_revoked_devices_by(parts: Parts) -> None:
    for name in ("pi-1", "pi-2"):
        parts.add_device(name)
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    revoke(parts)
    status = parts.start()
    assert status.rollout.devices == ("pi-2",)


def test_a_device_that_is_revoked_during_a_push_is_refused_by_it(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    status = parts.start()
    revoke(parts)
    parts.tick.run()
    parts.tick.run()
    state, assignments = parts.look(status)
    assert (state, assignments) == ("failed", {"pi-1": "refused"})
    assert parts.outgoing() == []


def test_an_open_assignment_ends_with_the_revocation_and_nothing_stays_at_the_broker(
    identities: IdentityWorld, parts: Parts
) -> None:
    parts.uow = identities.uow
    identities.enrol()
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push()
    assert assignment.state is AssignmentState.PENDING
    identities.identities.revocation.revoke("pi-1", ADMIN)
    (ended,) = parts.rollouts.get(assignment.rollout).assignments
    assert ended.state is AssignmentState.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "device.revoked"
    (message,) = parts.outgoing()
    assert (message.topic, message.payload, message.retain) == ("fleet/v1/devices/pi-1/desired", b"", True)


def test_the_register_is_read_as_it_was_written_and_damage_is_told(local_identities: IdentityWorld) -> None:
    local_identities.enrol()
    register = local_identities.identities.revocation.register
    (entry,) = register.all()
    assert register.get(PI) == entry
    assert register.get(DeviceId("pi-2")) is None
    file = local_identities.folder / "trust" / "devices" / "pi-1.json"
    assert msgspec.json.decode(file.read_bytes())["device"] == "pi-1"
    for damage in (b"", b"[]", b"{}", b'{"device": 1}'):
        file.write_bytes(damage)
        with pytest.raises(Exception, match="register of identities"):
            register.all()
