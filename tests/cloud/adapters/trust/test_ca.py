"""The authorities and their rotation: what they sign, and what a crash or a restored folder leaves."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.adapters.trust.keys import KeyFolder
from fleet_cloud.errors import Conflict, Invalid, SettingsError
from fleet_shared.limits import CERTIFICATE_LIFE_S
from fleet_shared.names import DeviceId, digest_of
from tests.kit.identities import make_csr

PI = DeviceId("pi-1")
YEAR_MS = 365 * 86_400_000


def open_authority(folder: Path) -> Authority:
    return Authority(KeyFolder(folder / "keys"), folder, "{}")


def issuer_of(authority: Authority, pem: str) -> int:
    """Return which of the authorities, from the newest, has signed a certificate."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = [issuer.signer.certificate.subject for issuer in authority.issuers]
    return names.index(certificate.issuer)


def test_a_device_gets_its_name_for_the_written_time(tmp_path: Path) -> None:
    authority = open_authority(tmp_path)
    issued = authority.describe(authority.sign_csr(make_csr(PI), PI, at_ms=YEAR_MS * 56))
    assert (issued.device, issued.issued_ms) == (PI, YEAR_MS * 56)
    assert issued.expires_ms - issued.issued_ms == CERTIFICATE_LIFE_S * 1000
    assert issued.revoked_ms is None


def test_every_certificate_has_a_serial_of_its_own(tmp_path: Path) -> None:
    authority, csr = open_authority(tmp_path), make_csr(PI)
    assert len({authority.describe(authority.sign_csr(csr, PI)).serial for _ in range(5)}) == 5


@pytest.mark.parametrize("name", ["pi-2", "ctl-1", "PI-1", ""])
def test_a_csr_that_names_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    csr = make_csr(name) if name else "-----BEGIN CERTIFICATE REQUEST-----\n"
    with pytest.raises(Invalid) as caught:
        open_authority(tmp_path).sign_csr(csr, PI)
    assert caught.value.code == "enrol.csr"


def test_a_csr_that_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    """The key of one CSR under the signature of another: who has no key gets no certificate for it."""
    mine, other = (make_csr(PI).splitlines() for _ in range(2))
    with pytest.raises(Invalid) as caught:
        open_authority(tmp_path).sign_csr("\n".join([*mine[:-2], other[-2], other[-1]]), PI)
    assert caught.value.code == "enrol.csr"


def test_keys_of_good_kinds_are_taken_and_others_are_not(tmp_path: Path) -> None:
    authority = open_authority(tmp_path)
    assert authority.sign_csr(make_csr(PI, generate_rsa_key(65537, 2048)), PI)
    assert authority.sign_csr(make_csr(PI, Ed25519PrivateKey.generate()), PI)
    short = generate_rsa_key(65537, 1024)  # noqa: S505 - the point
    for weak in (short, generate_private_key(SECP256K1())):
        with pytest.raises(Invalid) as caught:
            authority.sign_csr(make_csr(PI, weak), PI)
        assert caught.value.code == "enrol.csr"


def test_the_newest_authority_issues_unless_a_token_names_the_older_one_only(tmp_path: Path) -> None:
    authority = open_authority(tmp_path)
    alone = digest_of(authority.ca_pem.encode())
    authority.begin_rotation()
    both = digest_of(authority.ca_pem.encode())
    assert issuer_of(authority, authority.sign_csr(make_csr(PI), PI)) == 0
    for digest, which in ((both, 0), (alone, 1)):
        bundle = authority.find_bundle(digest)
        assert bundle is not None
        assert digest_of(bundle.encode()) == digest
        assert issuer_of(authority, authority.sign_csr(make_csr(PI), PI, bundle=bundle)) == which
    authority.finish_rotation()
    assert authority.find_bundle(alone) is None
    assert authority.find_bundle(both) is None


def test_a_rotation_outlives_a_restart_and_destroys_the_older_key_at_its_end(tmp_path: Path) -> None:
    first = open_authority(tmp_path).fingerprints
    open_authority(tmp_path).begin_rotation()
    during = open_authority(tmp_path)
    assert during.fingerprints[1:] == first
    with pytest.raises(Conflict) as caught:
        during.begin_rotation()
    assert caught.value.code == "authority.rotation.running"
    during.finish_rotation()
    after = open_authority(tmp_path)
    assert after.fingerprints == during.fingerprints
    assert first[0] not in after.fingerprints
    assert [file.name for file in (tmp_path / "keys").glob("ca*.pem")] == ["ca-2.pem"]
    after.finish_rotation()
    after.begin_rotation()
    assert open_authority(tmp_path).issuers[0].name == "ca-3"


def test_a_rotation_that_was_cut_off_before_it_was_named_is_taken_up(tmp_path: Path) -> None:
    open_authority(tmp_path).begin_rotation()
    made = open_authority(tmp_path).fingerprints[0]
    (tmp_path / "authorities.json").unlink()
    again = open_authority(tmp_path)
    assert len(again.fingerprints) == 1
    again.begin_rotation()
    assert again.fingerprints[0] == made


def test_two_authorities_have_names_of_their_own(tmp_path: Path) -> None:
    authority = open_authority(tmp_path)
    authority.begin_rotation()
    newer, older = (issuer.signer.certificate for issuer in authority.issuers)
    assert newer.subject != older.subject
    assert newer.serial_number != older.serial_number


@pytest.mark.parametrize("damage", ["keys/ca-2.pem", "ca-2-certificate.pem"])
def test_a_lost_part_of_an_authority_is_never_made_anew(tmp_path: Path, damage: str) -> None:
    open_authority(tmp_path).begin_rotation()
    (tmp_path / damage).unlink()
    with pytest.raises(SettingsError) as caught:
        open_authority(tmp_path)
    assert caught.value.code == "trust.keys"
    assert "backup" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", '["../x"]', '["ca", "ca-0"]', "["])
def test_a_damaged_list_of_authorities_is_refused(tmp_path: Path, content: str) -> None:
    open_authority(tmp_path)
    (tmp_path / "authorities.json").write_text(content)
    with pytest.raises(SettingsError) as caught:
        open_authority(tmp_path)
    assert caught.value.code == "trust.keys"
