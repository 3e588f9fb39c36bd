"""TLS of the device against a real server: who it is, its name, its dates by the device's time."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_agent.floor import DeviceTime, judge_time, raise_floor
from fleet_agent.tls import DatesError, broker_context, https_context, judge_dates
from tests.kit.authority import Authority, key_pem, make_key

DAY_MS = 86_400_000
MakeContext = Callable[[Path, Callable[[], DeviceTime]], ssl.SSLContext]


def time_in(days: float, *, believed: bool = True) -> DeviceTime:
    now_ms = int(time.time() * 1000 + days * DAY_MS)
    return DeviceTime(now_ms, now_ms if believed else None)


@pytest.fixture
def authority() -> Authority:
    return Authority(begins_days=-900)


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Path:
    folder = tmp_path / "identity"
    folder.mkdir()
    (folder / "ca.pem").write_text(authority.pem)
    key = make_key()
    (folder / "key.pem").write_bytes(key_pem(key))
    (folder / "certificate.pem").write_text(authority.sign("pi-1", key.public_key(), addresses=()))
    return folder


class Server:
    """Takes one connection after the other; ``received`` is what was sent to it, ``names`` who came."""

    def __init__(self, folder: Path, trusted: Authority) -> None:
        self.received: list[bytes] = []
        self.names: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        context.load_verify_locations(cadata=trusted.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            with plain:
                try:
                    with self._context.wrap_socket(plain, server_side=True) as peer:
                        certificate = peer.getpeercert() or {}
                        self.names += [str(certificate.get("subject"))]
                        content = peer.recv(100)
                except OSError:
                    content = b""
            if content == b"stop":
                return
            self.received.append(content)

    def close(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port)) as plain, context.wrap_socket(plain) as peer:
            peer.sendall(b"stop")
        self._thread.join(20)
        self._listener.close()


@contextmanager
def serving(folder: Path, signer: Authority, trusted: Authority, **dates: float) -> Iterator[Server]:
    signer.write(folder, "server", "server", **dates)
    server = Server(folder, trusted)
    try:
        yield server
    finally:
        server.close()


def connect(server: Server, context: ssl.SSLContext, name: str = "127.0.0.1") -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as peer,
    ):
        peer.sendall(b"hello")


def test_both_sides_show_who_they_are(tmp_path: Path, identity: Path, authority: Authority) -> None:
    with serving(tmp_path, authority, authority) as server:
        connect(server, broker_context(identity, lambda: time_in(0)))
    assert server.received == [b"hello"]
    assert "pi-1" in server.names[0]


def test_a_stranger_and_another_name_get_nothing(
    tmp_path: Path, identity: Path, authority: Authority
) -> None:
    context = broker_context(identity, lambda: time_in(0))
    with serving(tmp_path, Authority(), authority) as server, pytest.raises(ssl.SSLCertVerificationError):
        connect(server, context)
    with serving(tmp_path, authority, authority) as other, pytest.raises(ssl.SSLCertVerificationError):
        connect(other, context, "127.0.0.2")
    assert set(server.received + other.received) == {b""}


@pytest.mark.parametrize(
    "make", [broker_context, lambda folder, now: https_context((folder / "ca.pem").read_text(), now)]
)
def test_an_end_that_has_passed_is_refused_before_anything_is_sent(
    tmp_path: Path, identity: Path, authority: Authority, make: MakeContext
) -> None:
    with serving(tmp_path, authority, authority, ends_days=10) as server:
        with pytest.raises(DatesError, match=r"ended 2\.0 days ago"):
            connect(server, make(identity, lambda: time_in(12)))
        with pytest.raises(DatesError):
            connect(server, make(identity, lambda: time_in(12, believed=False)))
        connect(server, make(identity, lambda: time_in(9)))
    assert server.received == [b"", b"", b"hello"]


def test_a_machine_that_believes_no_clock_connects(
    tmp_path: Path, identity: Path, authority: Authority
) -> None:
    """The certificate is younger than all that this device has ever seen signed."""
    with serving(tmp_path, authority, authority) as server:
        for known in (DeviceTime(0, None), time_in(-400, believed=False)):
            connect(server, broker_context(identity, lambda known=known: known))  # type: ignore[misc]
        with pytest.raises(DatesError, match="begins in"):
            connect(server, broker_context(identity, lambda: time_in(-400)))
    assert server.received == [b"hello", b"hello", b""]


def test_a_server_that_is_out_of_date_by_this_machines_clock_is_judged_by_the_devices_time(
    tmp_path: Path, identity: Path, authority: Authority
) -> None:
    """OpenSSL itself would refuse it: its clock is that of the machine."""
    with serving(tmp_path, authority, authority, begins_days=-30, ends_days=-5) as server:
        connect(server, broker_context(identity, lambda: time_in(-10)))
    assert server.received == [b"hello"]


def test_an_authority_ends_too(tmp_path: Path, identity: Path) -> None:
    ended = Authority(begins_days=-20, ends_days=-2)
    (identity / "ca.pem").write_text(ended.pem)
    key = make_key()
    (identity / "key.pem").write_bytes(key_pem(key))
    (identity / "certificate.pem").write_text(ended.sign("pi-1", key.public_key()))
    told = pytest.raises(DatesError, match="the authority of its certificate ended")
    with serving(tmp_path, ended, ended) as server, told:
        connect(server, broker_context(identity, lambda: time_in(0)))


def test_of_two_authorities_with_one_name_one_is_enough(authority: Authority) -> None:
    good = {"subject": "x", "notBefore": "Jan  1 00:00:00 2020 GMT", "notAfter": "Jan  1 00:00:00 2040 GMT"}
    ended = {**good, "notAfter": "Jan  1 00:00:00 2021 GMT"}
    leaf = {**good, "issuer": "x"}
    now = time_in(0)
    assert judge_dates(leaf, [ended, good], now) == ""
    assert "authority" in judge_dates(leaf, [ended], now)
    assert judge_dates(leaf, [], now) == "", "an authority of the system, judged by the handshake"


def test_the_devices_time_is_never_before_what_was_seen_signed(tmp_path: Path) -> None:
    floor = tmp_path / "floor.json"
    assert judge_time(floor, None) == DeviceTime(0, None)
    assert judge_time(floor, 5) == DeviceTime(5, 5)
    raise_floor(floor, 10**12)
    assert judge_time(floor, 5).wall_ms is None
    assert judge_time(floor, 5).now_ms >= 10**12
    assert judge_time(floor, 2 * 10**12) == DeviceTime(2 * 10**12, 2 * 10**12)
