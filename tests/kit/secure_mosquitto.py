"""Mosquitto as `fleet broker config` sets it up: certificates, dynamic security, a revocation list."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet_cloud.adapters.mosquitto.access import DynamicSecurity
from fleet_cloud.adapters.mosquitto.commands import entry_of
from fleet_cloud.adapters.mosquitto.configuration import CONFIGURATION, Place, write_configuration
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mosquitto.files import BrokerFiles, Reload, files_in
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics
from tests.kit.certificates import LOOPBACK, Party, TestAuthority
from tests.kit.ports import free_port
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for

CONTROLLER = "ctl-fleet"
TOPICS = Topics()


class RevokingAuthority(TestAuthority):
    """An authority with a revocation list. All of its lists are of the same second, as those of two quick
    revocations are: OpenSSL takes the older of two such lists that it knows."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        super().__init__(folder, name)
        self._revoked: list[int] = []
        self._since = datetime.now(timezone.utc) - timedelta(hours=1)

    def revoke(self, party: Party) -> None:
        certificate = x509.load_pem_x509_certificate(party.tls.certificate.read_bytes())
        self._revoked.append(certificate.serial_number)

    def restore(self, party: Party) -> None:
        certificate = x509.load_pem_x509_certificate(party.tls.certificate.read_bytes())
        self._revoked.remove(certificate.serial_number)

    def crl_pem(self) -> bytes:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(self._since)
            .next_update(now + timedelta(days=30))
        )
        for number in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def sign_itself(believed: TestAuthority, name: str, folder: Path) -> Party:
    """Return a certificate that nobody vouches for but its own key, and that says it is an authority."""
    own = TestAuthority(folder, name)
    tls = TlsFiles(folder / "ca.pem", folder / "own.pem", folder / "own.key")
    tls.authorities.write_bytes(believed.pem)
    tls.certificate.write_bytes(own.pem)
    tls.key.write_bytes(own._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Party(tls, Digest("0" * 64))


@dataclass
class ConfiguredMosquitto:
    """Runs what `fleet broker config` wrote to ``place``, as the user who owns the tests' files."""

    folder: Path
    place: Place
    _process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.place.port

    @property
    def pid_file(self) -> Path:
        return self.folder / "mosquitto.pid"

    @property
    def reload_command(self) -> str:
        """The command that a site gives, which goes on to work after a restart."""
        return f"sh -c 'kill -HUP $(cat {self.pid_file})'"

    def start(self) -> None:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        configuration = self.folder / "as-root.conf"
        written = (self.place.folder / CONFIGURATION).read_text()
        configuration.write_text(f"{written}user root\n")
        before = self._count_starts()
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([binary, "-c", str(configuration)], stdout=log, stderr=log)
        self.pid_file.write_text(str(self._process.pid))
        wait_for("mosquitto to run", lambda: self._runs(before), timeout_s=20)

    def hang_up(self) -> None:
        """Tell it to read its files again; it does so a moment later."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def end(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is not None:
            end_process(process, number)

    def count_connections(self) -> int:
        """Return how many it has accepted by now, those without a handshake too."""
        assert self._process is not None
        sockets = psutil.Process(self._process.pid).net_connections("tcp")
        return len([one for one in sockets if one.status == psutil.CONN_ESTABLISHED])

    def read_log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def _runs(self, before: int) -> bool:
        """It says so after it listens: a SIGHUP that comes earlier ends it."""
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        return self._count_starts() > before

    def _count_starts(self) -> int:
        log = self.folder / "mosquitto.log"
        return self.read_log().count(" running\n") if log.exists() else 0


@dataclass(kw_only=True)
class SecureMosquitto(ConfiguredMosquitto):
    """``source``: the TLS files as the controller has them; ``place``: where the broker has its own."""

    authority: RevokingAuthority
    source: BrokerFiles
    parties: dict[str, Party] = field(default_factory=dict)

    def issue(self, name: str, to_days: float = 1) -> Party:
        party = self.parties[name] = self.authority.issue(name, from_days=-20, to_days=to_days)
        return party

    def write_revoked(self) -> None:
        self.source.revoked.write_bytes(self.authority.crl_pem())


@contextmanager
def secure_mosquitto(folder: Path, known: Sequence[str] = ()) -> Iterator[SecureMosquitto]:
    """A broker with the controller, and with the devices that ``known`` names let in."""
    authority = RevokingAuthority(folder / "authority")
    server = authority.issue("server", hosts=[LOOPBACK])
    source = BrokerFiles(server.tls.authorities, folder / "crl.pem", server.tls.certificate, server.tls.key)
    place = Place(folder / "broker", folder / "state" / "dynamic-security.json", free_port(), LOOPBACK)
    broker = SecureMosquitto(folder, place, authority=authority, source=source)
    broker.write_revoked()
    broker.issue(CONTROLLER)
    entries = [entry_of(TOPICS, DeviceId(name), broker.issue(name).key_sha256) for name in known]
    write_configuration(place, TOPICS, CONTROLLER, entries, source)
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


class ControllerLine:
    """The controller's connection, as the adapter needs it: TLS, one topic that it listens to."""

    def __init__(self, broker: SecureMosquitto) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._broker, self._subscribed = broker, 0
        self._listening: dict[str, Callable[[bytes], None]] = {}
        tls = broker.parties[CONTROLLER].tls
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=CONTROLLER, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set(str(tls.authorities), str(tls.certificate), str(tls.key))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        self._listening[topic] = heard

    def send(self, topic: str, payload: bytes, *, retain: bool) -> object | None:
        if not self._client.is_connected():
            return None
        return self._client.publish(topic, payload, qos=1, retain=retain)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._client.connect(LOOPBACK, self._broker.port, keepalive=20)
        self._client.loop_start()
        try:
            self.wait_for_subscription(1)
            yield
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def wait_for_subscription(self, number: int) -> None:
        wait_for("the controller's subscriptions", lambda: self._subscribed >= number, timeout_s=20)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([(topic, 1) for topic in ("fleet/v1/#", *self._listening)])

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed += 1

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic in self._listening:
            self._listening[message.topic](bytes(message.payload))
        else:
            self.heard.append((message.topic, bytes(message.payload)))


@contextmanager
def administered(
    broker: SecureMosquitto, command: str | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[DynamicSecurity, ControllerLine]]:
    """The adapter on a connection of the controller."""
    line = ControllerLine(broker)
    reload = Reload(
        broker.source, files_in(broker.place.folder), broker.reload_command if command is None else command
    )
    access = DynamicSecurity(Control(line), TOPICS, reload, clock)
    with line.running():
        yield access, line
