"""A local broker as a site has one: Mosquitto with passwords, rights and a disk, killed and started again."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.kit.ports import free_port, is_open
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for


@dataclass
class LocalBroker:
    """``rights``: for each user the lines of its part of the ACL. A user's password is its name twice.

    ``certificates``: a folder with ca.pem, server.pem and server.key, for TLS; clients then prove
    themselves by a certificate, whose name is the user's.

    It keeps sessions and messages on disk at each change, as a broker does that must lose none."""

    folder: Path
    rights: Mapping[str, str]
    port: int = field(default_factory=free_port)
    certificates: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not (self.folder / "passwords").exists():
            self._write_files()
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        wait_for("mosquitto to listen", self._listens, timeout_s=20)

    def end(self, number: int = signal.SIGTERM) -> None:
        """SIGTERM lets it write its sessions down."""
        process, self._process = self._process, None
        if process is not None:
            end_process(process, number)

    def read_log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        passwords = self.folder / "passwords"
        passwords.touch(mode=0o600)
        tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        for user in self.rights:
            subprocess.run([tool, "-b", str(passwords), user, user * 2], check=True, capture_output=True)
        acl = self.folder / "acl"
        acl.touch(mode=0o600)
        acl.write_text("".join(f"user {user}\n{lines}\n" for user, lines in self.rights.items()))
        given = f"password_file {passwords}\n"
        if self.certificates is not None:
            given = "require_certificate true\nuse_identity_as_username true\n" + "".join(
                f"{key} {self.certificates / file}\n"
                for key, file in (("cafile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key"))
            )
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\n{given}"
            f"acl_file {acl}\npersistence true\npersistence_location {self.folder}/\n"
            "max_inflight_messages 0\nmax_queued_messages 0\n"
            f"user root\n"
        )

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        return is_open(self.port)


@contextmanager
def local_broker(
    folder: Path, rights: Mapping[str, str], certificates: Path | None = None
) -> Iterator[LocalBroker]:
    broker = LocalBroker(folder, rights, certificates=certificates)
    try:
        broker.start()
        yield broker
    finally:
        broker.end(signal.SIGKILL)


class Application:
    """A program of the site: publishes samples and reads answers, through restarts of the broker."""

    def __init__(self, port: int, user: str, topics: str, certificates: Path | None = None) -> None:
        self.got: list[tuple[str, dict[str, Any], bytes | None]] = []
        self._subscribed = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"app-{user}", protocol=MQTTProtocolVersion.MQTTv5
        )
        if certificates is None:
            self._client.username_pw_set(user, user * 2)
        else:
            self._client.tls_set(
                ca_certs=f"{certificates}/ca.pem",
                certfile=f"{certificates}/{user}.pem",
                keyfile=f"{certificates}/{user}.key",
            )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topics, 1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._port = port

    @contextmanager
    def running(self) -> Iterator["Application"]:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 600
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=session)
        self._client.loop_start()
        try:
            wait_for("the application's subscription", lambda: self._subscribed)
            yield self
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def publish(
        self, topic: str, payload: bytes | str, correlation: bytes | None = None, *, qos: int = 1
    ) -> mqtt.MQTTMessageInfo:
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        return self._client.publish(topic, payload, qos=qos, properties=properties)

    def find(self, topic: str) -> list[dict[str, Any]]:
        return [document for found, document, _ in list(self.got) if found == topic]

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed += 1

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        self.got.append((message.topic, json.loads(message.payload), correlation))


def write_certificates(folder: Path, names: Sequence[str]) -> Path:
    """Write an authority, a certificate of the server for 127.0.0.1, and one for each client."""
    folder.mkdir()
    authority = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "ca", authority, authority, "authority")
    for name in ("server", *names):
        _write(folder / name, ec.generate_private_key(ec.SECP256R1()), authority, name)
    return folder


def _write(
    path: Path, key: ec.EllipticCurvePrivateKey, authority: ec.EllipticCurvePrivateKey, name: str
) -> None:
    now = datetime.now(timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=key is authority, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(authority, hashes.SHA256())
    )
    path.with_suffix(".pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
