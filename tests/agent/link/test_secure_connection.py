"""The connection over TLS, against a real Mosquitto that takes certificates only."""

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from fleet_agent.floor import judge_time
from fleet_agent.identity import Identity, load_identity, note_secured, save_identity
from fleet_agent.link.connection import Connection
from fleet_agent.link.events import Connected, Disconnected, LinkEvent, MessageReceived, ReleasesNews
from fleet_agent.tls import broker_context
from fleet_shared.limits import RELEASES_BYTES
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import DeviceId
from fleet_shared.topics import Channel, Topics
from tests.agent.test_tls import time_in
from tests.kit.authority import Authority, key_pem, make_key
from tests.kit.local_broker import Application, LocalBroker, local_broker
from tests.kit.mosquitto import Mosquitto

DEVICE = DeviceId("pi-1")
RIGHTS = {
    "pi-1": "topic read fleet/v1/releases\npattern readwrite fleet/v1/devices/%u/#",
    "ctl": "topic readwrite fleet/v1/#",
}
Connect = Callable[..., Connection]


@pytest.fixture
def authority() -> Authority:
    return Authority(begins_days=-900)


@pytest.fixture
def certificates(tmp_path: Path, authority: Authority) -> Path:
    """The broker's folder of certificates, and those of its clients."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "ca.pem").write_text(authority.pem)
    authority.write(folder, "server", "broker")
    authority.write(folder, "ctl", "ctl")
    return folder


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Path:
    folder = tmp_path / "identity"
    folder.mkdir()
    (folder / "ca.pem").write_text(authority.pem)
    give_certificate(folder, authority)
    return folder


def give_certificate(identity: Path, authority: Authority, name: str = DEVICE) -> None:
    key = make_key()
    (identity / "key.pem").write_bytes(key_pem(key))
    (identity / "certificate.pem").write_text(authority.sign(name, key.public_key(), addresses=()))


@pytest.fixture
def broker(tmp_path: Path, certificates: Path) -> Iterator[LocalBroker]:
    with local_broker(tmp_path / "broker", RIGHTS, certificates) as found:
        yield found


@pytest.fixture
def events() -> "queue.Queue[LinkEvent]":
    return queue.Queue()


@pytest.fixture
def connect(
    broker: LocalBroker, identity: Path, tmp_path: Path, events: "queue.Queue[LinkEvent]"
) -> Iterator[Connect]:
    made: list[Connection] = []

    def make(
        days: float = 0.0, host: str = "127.0.0.1", *, tls: bool = True, port: int = 0,
        secured: Callable[[int], None] = lambda _port: None,
    ) -> Connection:  # fmt: skip
        numbers = count(1)
        floor = tmp_path / "floor.json"
        connection = Connection(
            DEVICE, Topics(), BrokerAddress(host=host, port=port or broker.port, tls=tls), events.put,
            lambda: f"session-{next(numbers)}",
            tls=lambda: broker_context(identity, lambda: judge_time(floor, time_in(days).wall_ms)),
            secured=secured,
        )  # fmt: skip
        made.append(connection)
        connection.connect()
        return connection

    yield make
    for connection in made:
        connection.close()


def test_a_device_and_its_broker_know_each_other(
    broker: LocalBroker, certificates: Path, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connection = connect()
    assert events.get(timeout=20) == Connected("session-1")
    application = Application(broker.port, "ctl", "fleet/v1/devices/+/presence", certificates)
    with application.running():
        application.publish("fleet/v1/devices/pi-1/ack", b"to this device")
        assert events.get(timeout=20) == MessageReceived(Channel.ACK, b"to this device")
    assert connection.publish(Channel.TELEMETRY, b"{}")


def test_news_of_releases_come_in_and_what_is_too_long_does_not(
    broker: LocalBroker, certificates: Path, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    connect()
    assert events.get(timeout=20) == Connected("session-1")
    application = Application(broker.port, "ctl", "fleet/v1/devices/+/presence", certificates)
    with application.running():
        application.publish("fleet/v1/releases", b"x" * (RELEASES_BYTES + 1))
        application.publish("fleet/v1/releases", b"news")
        assert events.get(timeout=20) == ReleasesNews(b"news")


def test_a_broker_that_tells_no_news_is_good_for_the_rest(
    broker: LocalBroker, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    acl = broker.folder / "acl"
    acl.write_text(acl.read_text().replace("topic read fleet/v1/releases", ""))
    broker.end()
    broker.start()
    connect()
    assert events.get(timeout=20) == Connected("session-1")


def test_a_device_of_a_time_without_tls_finds_the_broker_that_has_it_now(
    broker: LocalBroker, connect: Connect, identity: Path, events: "queue.Queue[LinkEvent]"
) -> None:
    address = BrokerAddress(host="127.0.0.1", port=1883)
    save_identity(identity, Identity(
        device=DEVICE, controller_url="http://c", metadata_path="/m", targets_path="/t",
        topic_root="fleet/v1", broker=address,
    ))  # fmt: skip
    connection = connect(tls=False, secured=partial(note_secured, identity))
    for _attempt in range(3):
        if isinstance(event := events.get(timeout=20), Connected):
            break
        connection.connect()
    assert isinstance(event, Connected)
    kept = load_identity(identity).broker
    assert (kept.tls, kept.port) == (True, broker.port), "the next start begins with TLS"
    connection.connect()
    assert isinstance(events.get(timeout=20), Connected), "so does the next attempt"


@pytest.mark.parametrize(
    ("answers", "reason", "connects"),
    [(True, "Not authorized", {5}), (False, "Unspecified error", {5, 4, None})],
)
def test_a_broker_without_tls_is_away_for_its_own_reason(
    connect: Connect, events: "queue.Queue[LinkEvent]", answers: bool, reason: str, connects: set[int | None]
) -> None:
    """Other versions of MQTT, and TLS, are tried where nothing is answered: what comes of that must not hide
    why the broker says no."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        versions: set[int | None] = set()
        threading.Thread(target=refuse, args=(server, answers, versions), daemon=True).start()
        connection = connect(tls=False, port=server.getsockname()[1])
        reasons = set()
        for attempt in range(5):
            event = events.get(timeout=20)
            assert isinstance(event, Disconnected)
            reasons.add(event.reason)
            if attempt < 4:
                connection.connect()
    assert (reasons, versions) == ({reason}, connects)


def refuse(server: socket.socket, answers: bool, versions: set[int | None]) -> None:
    """A broker that takes nobody, and knows no TLS. ``versions``: of MQTT, none for something else."""
    with suppress(OSError):
        while True:
            peer, _address = server.accept()
            with peer, suppress(OSError):
                first = peer.recv(4096)
                versions.add(first[first.index(b"MQTT") + 4] if first[:1] == b"\x10" else None)
                if answers:
                    peer.sendall(bytes([0x20, 3, 0, 0x87, 0]))
                    peer.recv(1)


def test_a_broker_of_another_authority_is_told_nothing(
    broker: LocalBroker, identity: Path, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    (identity / "ca.pem").write_text(Authority().pem)
    connect()
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert event.untrusted
    assert "its certificate is refused" in event.reason
    assert "pi-1" not in broker.read_log(), "a CONNECT was sent"


def test_a_broker_with_another_name_is_refused(connect: Connect, events: "queue.Queue[LinkEvent]") -> None:
    connect(host="localhost")
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert event.untrusted


def test_a_broker_whose_certificate_ended_is_refused_by_the_devices_time_and_a_renewed_one_is_not(
    broker: LocalBroker,
    certificates: Path,
    authority: Authority,
    connect: Connect,
    events: "queue.Queue[LinkEvent]",
) -> None:
    """Three months offline: the broker's certificate ended meanwhile, and nobody has to come."""
    connection = connect(days=200)
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert not event.untrusted
    assert "its certificate ended 20.0 days ago" in event.reason
    assert "pi-1" not in broker.read_log(), "a CONNECT was sent"
    authority.write(certificates, "server", "broker", ends_days=300)
    broker.end()
    broker.start()
    connection.connect()
    assert events.get(timeout=20) == Connected("session-2")


def test_a_certificate_that_the_broker_does_not_take_is_a_broker_that_is_away(
    identity: Path, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    give_certificate(identity, Authority())
    connect()
    event = events.get(timeout=20)
    assert isinstance(event, Disconnected)
    assert not event.untrusted


def test_a_new_certificate_and_new_authorities_are_used_with_the_next_connection(
    broker: LocalBroker,
    identity: Path,
    authority: Authority,
    connect: Connect,
    events: "queue.Queue[LinkEvent]",
) -> None:
    (identity / "ca.pem").write_text(Authority().pem)
    connection = connect()
    assert isinstance(events.get(timeout=20), Disconnected)
    (identity / "ca.pem").write_text(Authority().pem + authority.pem)
    give_certificate(identity, authority)
    connection.connect()
    assert events.get(timeout=20) == Connected("session-2")


def test_a_damaged_file_ends_an_attempt_and_not_the_agent(
    identity: Path, connect: Connect, events: "queue.Queue[LinkEvent]"
) -> None:
    for name in ("certificate.pem", "key.pem", "ca.pem"):
        good = (identity / name).read_bytes()
        for bad in (b"", b"garbage"):
            (identity / name).write_bytes(bad)
            connect()
            assert isinstance(events.get(timeout=20), Disconnected), name
        (identity / name).unlink()
        connect()
        assert isinstance(events.get(timeout=20), Disconnected), name
        (identity / name).write_bytes(good)
    connect()
    assert isinstance(events.get(timeout=20), Connected)


def test_a_broker_without_tls_that_was_mute_for_a_while_is_found_again(
    mosquitto: Mosquitto, identity: Path, events: "queue.Queue[LinkEvent]"
) -> None:
    """While it is mute every way is tried, TLS too; none must be the last."""
    connection = Connection(
        DEVICE, Topics(), BrokerAddress(host="127.0.0.1", port=mosquitto.port), events.put, lambda: "session",
        tls=lambda: broker_context(identity, lambda: time_in(0)),
    )  # fmt: skip
    try:
        for _ in range(2):
            connection.connect()
            assert isinstance(events.get(timeout=20), Connected)
            connection._answered, connection._reached = False, True  # as if it had said nothing
        for _ in range(5):
            connection.connect()
            if isinstance(events.get(timeout=20), Connected):
                break
        else:
            raise AssertionError("it never speaks without TLS again")
    finally:
        connection.close()
