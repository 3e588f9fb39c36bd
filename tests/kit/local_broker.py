"""A local broker as a site has one: Mosquitto with passwords, rights and a disk, killed and started again."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.kit.ports import free_port, is_open
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for


@dataclass
class LocalBroker:
    """``rights``: for each user the lines of its part of the ACL. A user's password is its name twice.

    It keeps sessions and messages on disk at each change, as a broker does that must lose none."""

    folder: Path
    rights: Mapping[str, str]
    port: int = field(default_factory=free_port)
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
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"acl_file {acl}\npersistence true\npersistence_location {self.folder}/\n"
            "max_inflight_messages 0\nmax_queued_messages 0\n"
            f"user root\n"
        )

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        return is_open(self.port)


@contextmanager
def local_broker(folder: Path, rights: Mapping[str, str]) -> Iterator[LocalBroker]:
    broker = LocalBroker(folder, rights)
    try:
        broker.start()
        yield broker
    finally:
        broker.end(signal.SIGKILL)


class Application:
    """A program of the site: publishes samples and reads answers, through restarts of the broker."""

    def __init__(self, port: int, user: str, topics: str) -> None:
        self.got: list[tuple[str, dict[str, Any], bytes | None]] = []
        self._subscribed = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"app-{user}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.username_pw_set(user, user * 2)
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
        self, topic: str, payload: bytes | str, correlation: bytes | None = None
    ) -> mqtt.MQTTMessageInfo:
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        return self._client.publish(topic, payload, qos=1, properties=properties)

    def find(self, topic: str) -> list[dict[str, Any]]:
        return [document for found, document, _ in list(self.got) if found == topic]

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed += 1

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        self.got.append((message.topic, json.loads(message.payload), correlation))
