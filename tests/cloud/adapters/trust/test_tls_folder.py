"""The controller's certificates as its peers see them: in real TLS, over real sockets."""

import socket
import ssl
import stat
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.adapters.trust.certificates import names_of
from fleet_cloud.adapters.trust.keys import KeyFolder
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.limits import SERVER_CERTIFICATE_LIFE_S
from fleet_shared.names import DeviceId
from tests.kit.identities import make_device

HOSTS = ("localhost", "127.0.0.1", "fleet.example")
PI = DeviceId("pi-1")
DAY_MS = 86_400_000


def now_ms() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1000)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(KeyFolder(tmp_path / "keys"), tmp_path, "{}")


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> CertificateFolder:
    made = CertificateFolder(authority, tmp_path / "tls", HOSTS)
    made.renew(now_ms())
    made.write_revocations([], now_ms())
    return made


def client_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authorities))
    context.load_cert_chain(files.certificate, files.key)
    return context


def server_context(folder: CertificateFolder, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder.authorities))
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(folder.revocations)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_X509_STRICT
    return context


def greet(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> str:
    """Return the name that the server saw in the client's certificate."""
    here, there = socket.socketpair()
    seen: list[str | ssl.SSLError] = []

    def accept() -> None:
        try:
            with server.wrap_socket(here, server_side=True) as secured:
                der = secured.getpeercert(binary_form=True) or b""
                seen.extend(names_of(x509.load_der_x509_certificate(der).subject))
                secured.sendall(b"!")
        except ssl.SSLError as exc:
            seen.append(exc)
        finally:
            here.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with client.wrap_socket(there, server_hostname=host) as secured:
            secured.recv(1)
    finally:
        there.close()
        thread.join()
    (found,) = seen
    if isinstance(found, ssl.SSLError):
        raise found
    return found


@pytest.mark.parametrize("host", HOSTS)
def test_devices_and_the_controller_greet_the_server_by_each_of_its_names(
    authority: Authority, folder: CertificateFolder, tmp_path: Path, host: str
) -> None:
    server = server_context(folder, folder.server)
    device = make_device(authority, PI, tmp_path / "pi")
    assert greet(server, client_context(device), host) == PI
    name = greet(server, client_context(folder.controller), host)
    assert name == folder.controller_id
    assert name.startswith("ctl-")


def test_a_server_is_refused_under_a_name_that_it_does_not_have(
    folder: CertificateFolder, authority: Authority, tmp_path: Path
) -> None:
    device = client_context(make_device(authority, PI, tmp_path / "pi"))
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        greet(server_context(folder, folder.server), device, "other.example")


def test_each_certificate_is_good_for_one_side_only(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    """A broker's key that was stolen must not come to another broker as the controller; a device with the
    name of a host must not be taken for the controller."""
    server = server_context(folder, folder.server)
    with pytest.raises(ssl.SSLError):
        greet(server, client_context(folder.server))
    device = make_device(authority, DeviceId("localhost"), tmp_path / "pi")
    context = client_context(folder.controller)
    context.check_hostname = False
    for files in (device, folder.controller):
        with pytest.raises(ssl.SSLError, match="certificate purpose"):
            greet(server_context(folder, files), context)


def test_a_revoked_serial_is_refused_and_another_is_not(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    revoked, other = make_device(authority, PI, tmp_path / "a"), make_device(authority, PI, tmp_path / "b")
    serial = authority.describe(revoked.certificate.read_text()).serial
    folder.write_revocations([(serial, now_ms())], now_ms())
    assert greet(server_context(folder, folder.server), client_context(other)) == PI
    with pytest.raises(ssl.SSLError, match="revoked"):
        greet(server_context(folder, folder.server), client_context(revoked))


def test_during_a_rotation_both_authorities_are_believed_on_both_sides(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    older = make_device(authority, PI, tmp_path / "older")
    before = folder.server.certificate.read_bytes()
    authority.begin_rotation()
    folder.renew(now_ms())
    folder.write_revocations([], now_ms())
    newer = make_device(authority, DeviceId("pi-2"), tmp_path / "newer")
    assert folder.server.certificate.read_bytes() == before, "devices that were away know the older only"
    server = server_context(folder, folder.server)
    assert greet(server, client_context(older)) == PI
    assert greet(server, client_context(newer)) == "pi-2"
    assert greet(server, client_context(folder.controller)) == folder.controller_id


def test_after_a_rotation_only_the_newer_authority_is_believed(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    older, name = make_device(authority, PI, tmp_path / "older"), folder.controller_id
    authority.begin_rotation()
    newer = make_device(authority, DeviceId("pi-2"), tmp_path / "newer")
    authority.finish_rotation()
    folder.renew(now_ms())
    folder.write_revocations([], now_ms())
    server = server_context(folder, folder.server)
    newer.authorities.write_text(authority.ca_pem)
    assert greet(server, client_context(newer)) == "pi-2"
    assert greet(server, client_context(folder.controller)) == name == folder.controller_id
    older.authorities.write_text(authority.ca_pem)
    with pytest.raises(ssl.SSLError):
        greet(server, client_context(older))


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left_and_keeps_its_key(
    folder: CertificateFolder,
) -> None:
    files = (folder.server, folder.controller)
    keys = [one.key.read_bytes() for one in files]
    before = [one.certificate.read_bytes() for one in files]
    third_ms = SERVER_CERTIFICATE_LIFE_S * 1000 // 3
    folder.renew(now_ms() + 2 * third_ms - 2 * DAY_MS)
    assert [one.certificate.read_bytes() for one in files] == before
    folder.renew(now_ms() + 2 * third_ms + 2 * DAY_MS)
    assert folder.server.certificate.read_bytes() != before[0]
    assert folder.controller.certificate.read_bytes() == before[1], "it lives longer"
    assert [one.key.read_bytes() for one in files] == keys


def test_what_is_lost_or_damaged_is_made_anew_and_the_controller_keeps_its_name(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    name = folder.controller_id
    folder.server.key.write_bytes(b"")
    folder.controller.key.unlink()
    folder.authorities.unlink()
    folder.revocations.write_text("-----BEGIN X509 CRL-----\n?")
    folder.renew(now_ms())
    folder.write_revocations([], now_ms())
    device = client_context(make_device(authority, PI, tmp_path / "pi"))
    assert greet(server_context(folder, folder.server), device) == PI
    assert greet(server_context(folder, folder.server), client_context(folder.controller)) == name


def test_a_new_name_of_the_controller_gets_a_new_certificate(
    authority: Authority, folder: CertificateFolder, tmp_path: Path
) -> None:
    before = folder.server.certificate.read_bytes()
    fewer = CertificateFolder(authority, tmp_path / "tls", HOSTS[:1])
    fewer.renew(now_ms())
    assert fewer.server.certificate.read_bytes() == before, "a name more does no harm"
    more = CertificateFolder(authority, tmp_path / "tls", (*HOSTS, "2001:db8::1"))
    more.renew(now_ms())
    device = client_context(make_device(authority, PI, tmp_path / "pi"))
    assert greet(server_context(more, more.server), device, "2001:db8::1") == PI


def test_a_clock_that_went_back_is_no_trouble_for_long(folder: CertificateFolder) -> None:
    folder.renew(now_ms() + 40 * 365 * DAY_MS // 10)
    folder.write_revocations([], now_ms() + 365 * DAY_MS)
    folder.renew(now_ms())
    folder.write_revocations([], now_ms())
    certificate = x509.load_pem_x509_certificate(folder.server.certificate.read_bytes())
    crl = x509.load_pem_x509_crl(folder.revocations.read_bytes())
    now = datetime.now(timezone.utc)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc
    assert crl.last_update_utc < now


def test_a_list_is_written_again_only_when_it_says_something_else_or_grows_old(
    folder: CertificateFolder,
) -> None:
    def stamp() -> int:
        return folder.revocations.stat().st_ino

    first = stamp()
    folder.write_revocations([], now_ms() + DAY_MS)
    assert stamp() == first
    folder.write_revocations([("1f", now_ms())], now_ms())
    second = stamp()
    assert second != first
    folder.write_revocations([("1f", now_ms())], now_ms() + 61 * DAY_MS)
    assert stamp() != second


def test_keys_are_for_their_owner(folder: CertificateFolder) -> None:
    for files in (folder.server, folder.controller):
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
        assert load_pem_private_key(files.key.read_bytes(), None)
    assert stat.S_IMODE(folder.authorities.parent.stat().st_mode) == 0o700


def test_no_certificate_outlives_its_authority(authority: Authority, tmp_path: Path) -> None:
    late = datetime.now(timezone.utc) + timedelta(days=3640)
    files = make_device(authority, PI, tmp_path / "pi", at_ms=int(late.timestamp() * 1000))
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert certificate.not_valid_after_utc == authority.serving.certificate.not_valid_after_utc
