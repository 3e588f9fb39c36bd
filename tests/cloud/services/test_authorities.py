"""The replacement of the authority: how far devices are, and when its end is refused."""

import msgspec
import pytest
from cryptography import x509

from fleet_cloud.domain.device import Device
from fleet_cloud.errors import Conflict, Unavailable
from fleet_cloud.services.authorities import describe
from fleet_cloud.services.observe import Observe
from fleet_shared.envelope import AUTHORITIES_TARGET, Authorities
from fleet_shared.messages.reported import Reported, TrustReport
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics
from fleet_shared.wire import decode
from tests.cloud.domain.test_rules import FACTS
from tests.kit.identity_world import DAY_MS, IdentityWorld
from tests.kit.people import ADMIN

OLD, NEW = Digest("a" * 64), Digest("b" * 64)
REPORT = Reported(session="s", facts=FACTS)


def report(world: IdentityWorld, name: str, *, believes: tuple[Digest, ...], issuer: Digest) -> None:
    """Let a device say whom it believes, and whose certificate it has."""
    trust = TrustReport(authorities=believes, issuer=issuer)
    Observe(world.uow, world.clock, Topics()).reported(
        DeviceId(name), msgspec.structs.replace(REPORT, trust=trust)
    )


def device(name: str, trust: TrustReport | None, revoked_ms: int | None = None) -> Device:
    reported = msgspec.structs.replace(REPORT, trust=trust)
    return Device(DeviceId(name), 1, Digest("0" * 64), reported=reported, revoked_ms=revoked_ms)


def test_who_counts_and_who_is_behind() -> None:
    new, old = TrustReport(authorities=(NEW, OLD), issuer=NEW), TrustReport(authorities=(OLD,), issuer=OLD)
    devices = [
        device("changed", new),
        device("knows", TrustReport(authorities=(NEW, OLD), issuer=OLD)),
        device("holds", TrustReport(authorities=(OLD,), issuer=NEW)),
        device("old", old),
        device("silent", None),
        Device(DeviceId("never"), 1, Digest("0" * 64)),
        device("revoked", old, revoked_ms=1),
        device("ended", old),
    ]
    status = describe((NEW, OLD), devices, {DeviceId("ended"): 99, DeviceId("old"): 101}, now_ms=100)
    assert (status.devices, status.believing, status.holding) == (6, 2, 2)
    assert status.behind == ("knows", "holds", "old", "silent", "never")
    assert status.running


def test_a_rotation_is_ended_when_every_device_has_changed(local_identities: IdentityWorld) -> None:
    rotation, authority = local_identities.identities.rotation, local_identities.trust.authority
    for name in ("pi-1", "pi-2"):
        local_identities.enrol(name)
    status = rotation.begin(ADMIN)
    new, old = status.fingerprints
    assert status.behind == ("pi-1", "pi-2")
    assert local_identities.tls.authorities.read_text() == authority.ca_pem
    assert authority.ca_pem.count("BEGIN") == 2
    report(local_identities, "pi-1", believes=(new, old), issuer=new)
    report(local_identities, "pi-2", believes=(new, old), issuer=old)
    with pytest.raises(Conflict) as caught:
        rotation.finish(ADMIN, force=False)
    assert caught.value.code == "authority.rotation.early"
    assert "pi-2" in caught.value.message
    assert "pi-1" not in caught.value.message
    assert authority.fingerprints == (new, old)
    report(local_identities, "pi-2", believes=(new, old), issuer=new)
    assert rotation.finish(ADMIN, force=False).fingerprints == (new,)
    assert local_identities.tls.authorities.read_text() == authority.ca_pem
    assert authority.ca_pem.count("BEGIN") == 1
    actions = local_identities.actions()
    assert actions.count("authority.rotate authority") == actions.count("authority.finish authority") == 1


def test_devices_learn_of_the_authorities_by_the_releases_alone(local_identities: IdentityWorld) -> None:
    def released() -> tuple[str, ...]:
        raw = local_identities.trust.repository.load_target(AUTHORITIES_TARGET)
        assert raw is not None
        return decode(Authorities, raw).pem

    rotation, authority = local_identities.identities.rotation, local_identities.trust.authority
    local_identities.identities.upkeep.start()
    assert released() == authority.pems
    rotation.begin(ADMIN)
    assert released() == authority.pems
    assert len(released()) == 2
    authority.finish_rotation()  # and the process was killed before it told anybody
    local_identities.restart().upkeep.start()
    assert released() == authority.pems
    assert len(released()) == 1
    assert local_identities.tls.authorities.read_text() == authority.ca_pem


def test_force_ends_it_whoever_is_cut_off(local_identities: IdentityWorld) -> None:
    local_identities.enrol()
    rotation = local_identities.identities.rotation
    rotation.begin(ADMIN)
    with pytest.raises(Conflict) as caught:
        rotation.begin(ADMIN)
    assert caught.value.code == "authority.rotation.running"
    assert not rotation.finish(ADMIN, force=True).running
    with pytest.raises(Conflict) as caught:
        rotation.finish(ADMIN, force=True)
    assert caught.value.code == "authority.rotation.none"


def test_devices_whose_certificates_have_ended_hold_up_nobody(local_identities: IdentityWorld) -> None:
    local_identities.enrol("long-gone")
    rotation = local_identities.identities.rotation
    rotation.begin(ADMIN)
    assert rotation.status().behind == ("long-gone",)
    local_identities.clock.at_ms += 181 * DAY_MS
    assert rotation.status().behind == ()
    assert not rotation.finish(ADMIN, force=False).running


def test_a_device_that_shows_the_newer_certificate_renews_at_the_newer_authority(
    local_identities: IdentityWorld,
) -> None:
    """What a device renews while both are believed comes from the newer one."""
    local_identities.enrol()
    local_identities.identities.rotation.begin(ADMIN)
    pem = local_identities.identities.enrolling.renew(DeviceId("pi-1"), local_identities.csr("pi-1"))
    newest = local_identities.trust.authority.issuers[0].signer.certificate
    assert local_identities.trust.authority.describe(pem).device == "pi-1"
    x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(newest)


def test_whoever_renews_gets_a_certificate_of_an_authority_that_devices_know(
    local_identities: IdentityWorld,
) -> None:
    """The news waits: for a broker here, for signatures elsewhere. A device refuses what it does not know."""
    authority = local_identities.trust.authority
    local_identities.enrol()
    local_identities.identities.upkeep.turn()

    def unread() -> None:
        raise Unavailable("nobody reads the files", code="broker.reload")

    local_identities.update_broker_files = unread
    services = local_identities.restart()
    services.rotation.begin(ADMIN)
    newer, older = (x509.load_pem_x509_certificate(pem.encode()) for pem in authority.pems)
    renewed = services.enrolling.renew(DeviceId("pi-1"), local_identities.csr("pi-1"))
    x509.load_pem_x509_certificate(renewed.encode()).verify_directly_issued_by(older)
    local_identities.update_broker_files = lambda: None
    services = local_identities.restart()
    services.upkeep.turn()
    renewed = services.enrolling.renew(DeviceId("pi-1"), local_identities.csr("pi-1"))
    x509.load_pem_x509_certificate(renewed.encode()).verify_directly_issued_by(newer)


def test_devices_hear_of_an_authority_only_when_the_broker_believes_it(
    local_identities: IdentityWorld,
) -> None:
    """Else what they renew would be refused there."""

    def fail() -> None:
        raise Unavailable("the broker has no file", code="broker.reload")

    def released() -> int:
        raw = local_identities.trust.repository.load_target(AUTHORITIES_TARGET)
        assert raw is not None
        return len(decode(Authorities, raw).pem)

    local_identities.identities.upkeep.start()
    local_identities.update_broker_files = fail
    rotation = local_identities.restart().rotation
    rotation.begin(ADMIN)
    assert released() == 1
    local_identities.update_broker_files = lambda: None
    local_identities.restart().upkeep.turn()
    assert released() == 2
