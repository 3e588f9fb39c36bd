"""The use cases of identities with a real broker: its certificates, its door and its files are theirs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.adapters.mosquitto.access import DynamicSecurity
from fleet_cloud.adapters.mosquitto.configuration import Place, write_configuration
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mosquitto.files import BrokerFiles, Reload, files_in
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.topics import Topics
from tests.kit.broker_client import BrokerClient
from tests.kit.certificates import LOOPBACK
from tests.kit.databases import sqlite_in
from tests.kit.identity_world import IdentityWorld, identity_world
from tests.kit.ports import free_port
from tests.kit.secure_broker import RawClient
from tests.kit.secure_mosquitto import ConfiguredMosquitto
from tests.kit.waiting import wait_for

GATEWAY_TIMEOUT_S = 20.0
CONNECT, SUBSCRIBE = 0x10, 0x82
TAKEN_IN, GRANTED = b"\x20\2\0\0", b"\x90\3\0\1\1"
"""CONNACK and SUBACK of MQTT 3.1.1, with the codes for yes."""


@dataclass
class BrokerWorld:
    """``world``: who may come in; its clock stands at the time of the machine, as the broker's does."""

    world: IdentityWorld
    port: int

    def connect(self, device: str, tls: TlsFiles) -> BrokerClient:
        return BrokerClient(self.port, tls, device)

    def lets_in(self, device: str, tls: TlsFiles) -> bool:
        """Tell whether the broker takes the device in and lets it hear what is for it: Mosquitto connects
        also whom it lets do nothing."""
        own = _text(f"fleet/v1/devices/{device}/desired")
        try:
            with RawClient(self.port, tls) as client:
                client.send(_packet(CONNECT, b"\0\4MQTT\4\2\0\x3c" + _text(device)))
                if client.read(len(TAKEN_IN)) != TAKEN_IN:
                    return False
                client.send(_packet(SUBSCRIBE, b"\0\1" + own + b"\1"))
                return client.read(len(GRANTED)) == GRANTED
        except OSError:
            return False

    def wait_until_let_in(self, device: str, tls: TlsFiles) -> None:
        """Mosquitto reads its files in a moment, when it was told to; devices try again meanwhile."""
        wait_for(f"{device} to be let in", lambda: self.lets_in(device, tls))


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(kind: int, content: bytes) -> bytes:
    return bytes([kind, len(content)]) + content


@contextmanager
def embedded(folder: Path) -> Iterator[BrokerWorld]:
    with _world(folder) as world:
        broker = EmbeddedBroker(LOOPBACK, 0, Topics(), world.tls.server)
        try:
            world.access = broker
            world.restart().upkeep.start()
            yield BrokerWorld(world, broker.port)
        finally:
            broker.close()


@contextmanager
def mosquitto(folder: Path) -> Iterator[BrokerWorld]:
    with _world(folder) as world:
        tls, topics = world.tls, Topics()
        source = BrokerFiles(tls.authorities, tls.revocations, tls.server.certificate, tls.server.key)
        place = Place(folder / "broker", folder / "state" / "dynamic-security.json", free_port(), LOOPBACK)
        write_configuration(place, topics, tls.controller_id, [], source)
        broker = ConfiguredMosquitto(folder, place)
        broker.start()
        gateway = Gateway(
            BrokerEndpoint(LOOPBACK, place.port, tls=tls.controller), topics, client_id=tls.controller_id
        )
        try:
            reload = Reload(source, files_in(place.folder), broker.reload_command)
            world.access = DynamicSecurity(Control(gateway), topics, reload)
            world.update_broker_files = reload
            gateway.start(GATEWAY_TIMEOUT_S)
            world.restart().upkeep.start()
            yield BrokerWorld(world, place.port)
        finally:
            gateway.close()
            broker.end()


@contextmanager
def _world(folder: Path) -> Iterator[IdentityWorld]:
    with identity_world(sqlite_in(folder), folder) as world:
        world.clock.at_ms = time.time_ns() // 1_000_000
        world.tls.renew(world.clock.at_ms)
        world.tls.write_revocations([], world.clock.at_ms)
        yield world
