"""Tokens and renewals: who gets a certificate, how often, until when, and who does not."""

import pytest

from fleet_cloud.errors import Conflict, Forbidden, Invalid, NotFound
from fleet_cloud.services.attempts import WRONG_MAX
from fleet_cloud.services.enrolment import RENEWALS_PER_DAY
from fleet_cloud.services.grants import REPEATED_FOR_MS
from fleet_shared.names import DeviceId, digest_of
from tests.kit.identities import make_csr
from tests.kit.identity_world import DAY_MS, HOUR_MS, IdentityWorld, serial_of
from tests.kit.people import ADMIN

PI = DeviceId("pi-1")


def refused(world: IdentityWorld, code: str, device: str = "pi-1", secret: str | None = None) -> None:
    with pytest.raises((Forbidden, Conflict)) as caught:
        world.enrol(device, secret, new_key=device not in world.keys)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_token_is_for_its_number_of_devices_which_get_its_labels(identities: IdentityWorld) -> None:
    secret = identities.token(uses=2, site="berlin")
    for name in ("pi-1", "pi-2"):
        identities.enrol(name, secret)
        device = identities.device(name)
        assert device is not None
        assert device.labels == {"site": "berlin"}
        assert identities.door.inside[DeviceId(name)] == device.public_key_sha256
    refused(identities, "enrol.token.used", "pi-3", secret)
    assert identities.device("pi-3") is None
    assert DeviceId("pi-3") not in identities.door.inside
    assert identities.actions()[1:] == ["device.enrol pi-1", "device.enrol pi-2"]


def test_only_the_hash_of_a_secret_is_kept(local_identities: IdentityWorld) -> None:
    secret = local_identities.token()
    (status,) = local_identities.identities.tokens.all()
    assert secret not in repr(status)
    assert status.grant.secret_sha256 == digest_of(secret.encode())
    with local_identities.uow.read() as transaction:
        assert secret not in repr(transaction.audit.page(0, 10))


def test_the_same_device_and_key_again_is_the_same_use_for_a_day(identities: IdentityWorld) -> None:
    secret = identities.token(life_s=60)
    first = identities.enrol(secret=secret)
    identities.clock.at_ms += HOUR_MS
    again = identities.enrol(secret=secret)
    assert serial_of(first.certificate_pem) != serial_of(again.certificate_pem)
    identities.clock.at_ms += REPEATED_FOR_MS
    refused(identities, "enrol.token.used", secret=secret)


def test_a_device_that_enrols_for_ever_fills_no_database(local_identities: IdentityWorld) -> None:
    secret = local_identities.token()
    for _ in range(RENEWALS_PER_DAY):
        local_identities.enrol(secret=secret)
    refused(local_identities, "renew.often", secret=secret)


def test_a_token_that_was_used_helps_no_other_device_and_no_other_key(identities: IdentityWorld) -> None:
    secret = identities.token(uses=1)
    identities.enrol(secret=secret)
    refused(identities, "enrol.token.used", "pi-2", secret)
    with pytest.raises(Forbidden) as caught:
        identities.enrol(secret=secret, new_key=True)
    assert caught.value.code == "enrol.token.used"


def test_a_use_is_not_counted_for_a_device_that_was_refused(identities: IdentityWorld) -> None:
    identities.enrol("pi-1")
    secret = identities.token()
    with pytest.raises(Conflict) as caught:
        identities.enrol("pi-1", secret, new_key=True)
    assert caught.value.code == "enrol.device.exists"
    assert "--for" in caught.value.hint
    assert identities.enrol("pi-2", secret).device == "pi-2"


def test_a_name_is_taken_also_where_the_register_does_not_know_it(identities: IdentityWorld) -> None:
    """Devices that an older version enrolled are in the database alone."""
    identities.enrol("pi-1")
    for file in (identities.folder / "trust" / "devices").iterdir():
        file.unlink()
    before = identities.device()
    with pytest.raises(Conflict) as caught:
        identities.enrol("pi-1", new_key=True)
    assert caught.value.code == "enrol.device.exists"
    assert identities.device() == before


def test_expired_unknown_and_revoked_tokens_are_refused(identities: IdentityWorld) -> None:
    secret = identities.token(life_s=60)
    identities.clock.at_ms += 60_001
    refused(identities, "enrol.token.expired", secret=secret)
    refused(identities, "enrol.token.unknown", secret="guess")
    secret = identities.token(uses=5)
    identities.enrol("pi-2", secret)
    tokens = identities.identities.tokens
    token = tokens.all()[-1].grant.id
    assert tokens.revoke(token, ADMIN).state == "revoked"
    tokens.revoke(token, ADMIN)
    refused(identities, "enrol.token.revoked", "pi-3", secret)
    refused(identities, "enrol.token.revoked", "pi-2", secret)
    assert identities.actions().count(f"enrolment.token.revoke {token}") == 1
    with pytest.raises(NotFound) as caught:
        tokens.revoke("0" * 12, ADMIN)
    assert caught.value.code == "enrol.token.missing"


def test_the_list_of_tokens_says_what_each_is_good_for(identities: IdentityWorld) -> None:
    used, _, _ = identities.token(), identities.token(life_s=60), identities.token(life_s=9999, uses=3)
    identities.enrol(secret=used)
    identities.clock.at_ms += HOUR_MS
    found = identities.identities.tokens.all()
    assert sorted(status.state for status in found) == ["expired", "open", "used"]
    assert [[use.device for use in status.uses] for status in found if status.state == "used"] == [[PI]]


def test_who_guesses_is_not_listened_to_for_a_minute_and_others_are(local_identities: IdentityWorld) -> None:
    for _ in range(WRONG_MAX):
        refused(local_identities, "enrol.token.unknown", secret="guess")
    secret = local_identities.token()
    refused(local_identities, "enrol.attempts", secret=secret)
    assert local_identities.enrol("pi-2", origin="10.0.0.10").device == "pi-2"
    local_identities.clock.at_ms += 60_000
    assert local_identities.enrol(secret=secret).device == PI


def test_a_token_for_a_device_gives_it_a_new_key_and_ends_the_old_one(identities: IdentityWorld) -> None:
    old = identities.enrol()
    before = identities.device()
    secret = identities.token(device="pi-1")
    refused(identities, "enrol.token.other", "pi-2", secret)
    identities.enrol(secret=secret, new_key=True)
    after = identities.device()
    assert before is not None
    assert after is not None
    assert after.public_key_sha256 != before.public_key_sha256
    assert identities.door.inside == {PI: after.public_key_sha256}
    assert identities.door.cut == [PI]
    identities.identities.upkeep.turn()
    assert identities.listed() == {serial_of(old.certificate_pem)}
    entries = identities.actions()
    assert entries[-1] == "device.enrol pi-1"


def test_a_token_for_one_device_is_for_nothing_else(local_identities: IdentityWorld) -> None:
    for options in ({"uses": 2}, {"site": "berlin"}):
        with pytest.raises(Invalid) as caught:
            local_identities.token(device="pi-1", **options)
        assert caught.value.code == "enrol.token.device"


def test_a_certificate_is_renewed_for_the_key_on_record_only(identities: IdentityWorld) -> None:
    identities.enrol()
    identities.clock.at_ms += 70 * DAY_MS
    renew = identities.identities.enrolling.renew
    issued = identities.trust.authority.describe(renew(PI, identities.csr("pi-1")))
    assert issued.issued_ms == identities.clock.at_ms
    assert identities.actions()[-1] == "device.renew pi-1"
    for device, csr in ((PI, make_csr("pi-1")), (DeviceId("pi-2"), make_csr("pi-2"))):
        with pytest.raises(Forbidden) as caught:
            renew(device, csr)
        assert caught.value.code == "renew.key"
    with pytest.raises(Invalid) as invalid:
        renew(PI, make_csr("pi-2", identities.keys["pi-1"]))
    assert invalid.value.code == "enrol.csr"
    identities.identities.revocation.revoke("pi-1", ADMIN)
    with pytest.raises(Forbidden) as caught:
        renew(PI, identities.csr("pi-1"))
    assert caught.value.code == "device.revoked"


def test_a_device_that_renews_for_ever_fills_no_database(identities: IdentityWorld) -> None:
    identities.enrol()
    renew, csr = identities.identities.enrolling.renew, identities.csr("pi-1")
    for _ in range(RENEWALS_PER_DAY - 1):
        renew(PI, csr)
    with pytest.raises(Forbidden) as caught:
        renew(PI, csr)
    assert caught.value.code == "renew.often"
    identities.clock.at_ms += DAY_MS + 1
    assert renew(PI, csr)
    identities.clock.at_ms += 400 * DAY_MS
    identities.identities.upkeep.turn()
    with identities.uow.read() as transaction:
        assert transaction.certificates.count_since(PI, 0) == 0


def test_a_token_made_before_the_authority_changes_gives_what_it_names(
    local_identities: IdentityWorld,
) -> None:
    authority = local_identities.trust.authority
    before, alone = local_identities.token(uses=2), authority.ca_pem
    local_identities.identities.rotation.begin(ADMIN)
    assert local_identities.enrol("pi-1", before).ca_pem == alone
    assert local_identities.enrol("pi-2").ca_pem == authority.ca_pem != alone
    local_identities.identities.rotation.finish(ADMIN, force=True)
    refused(local_identities, "enrol.token.authority", "pi-3", before)
