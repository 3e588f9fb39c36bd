"""A controller with a Mosquitto that `fleet broker config` has set up: enrolment, revocation, restarts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_cloud.adapters.mosquitto.configuration import START_STATE, Place
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.enrolment import EnrolReply
from fleet_shared.token import EnrolmentToken
from fleet_shared.wire import decode
from tests.kit.broker_client import BrokerClient, Refused
from tests.kit.certificates import LOOPBACK
from tests.kit.commands import run_fleet
from tests.kit.identities import make_csr, make_key
from tests.kit.packages import make_package, register
from tests.kit.ports import free_port
from tests.kit.secure_mosquitto import ConfiguredMosquitto
from tests.kit.waiting import wait_for
from tests.kit.world import Controller, World, wait_for_rollout

pytestmark = pytest.mark.system


@dataclass
class Site:
    world: World
    broker: ConfiguredMosquitto
    devices: dict[str, TlsFiles] = field(default_factory=dict)

    def enrol(self, name: str) -> None:
        """Do what an agent does: a key, a CSR, one request."""
        with self.world.client() as client:
            token = EnrolmentToken.parse(client.create_token({"site": "berlin"}, life_s=600))
        key = make_key()
        request = {"schema": 1, "secret": token.secret, "device": name, "csr_pem": make_csr(name, key)}
        response = httpx.post(f"{self.world.controller.url}/api/v1/enrolments", json=request, timeout=60)
        assert response.status_code == 200, response.text
        reply = decode(EnrolReply, response.content)
        assert (reply.broker.tls, reply.broker.port) == (True, self.broker.port)
        folder = self.world.folder / name
        folder.mkdir()
        files = self.devices[name] = TlsFiles(folder / "ca.pem", folder / "own.pem", folder / "own.key")
        files.authorities.write_text(reply.ca_pem)
        files.certificate.write_text(reply.certificate_pem)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def connect(self, name: str) -> BrokerClient:
        return BrokerClient(self.broker.port, self.devices[name], name, mqtt5=True)

    def is_let_in(self, name: str) -> bool:
        """Tell whether a device may connect and say that it is there."""
        try:
            with self.connect(name) as device:
                return device.publish(f"fleet/v1/devices/{name}/telemetry", b"{}")
        except Refused:
            return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    data, port = folder / "controller", free_port()
    place = Place(folder / "broker", folder / "broker" / "state" / "dynamic-security.json", port, LOOPBACK)
    broker = ConfiguredMosquitto(folder, place)
    options = {"data": str(data), "broker": f"mqtts://{LOOPBACK}:{port}"}
    environment = {
        "FLEET_BROKER_ACCESS": "dynsec",
        "FLEET_BROKER_FILES": str(place.folder),
        "FLEET_BROKER_RELOAD": broker.reload_command,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    done = run_fleet(
        "http://127.0.0.1:1", "broker", "config", "--out", str(place.folder), *words, "--listen", LOOPBACK
    )
    assert done.returncode == 0, done.stderr
    assert f'broker_files = "{place.folder}"' in done.stdout
    world = World(folder, Controller(folder, options, environment))
    try:
        broker.start()
        world.controller.start()
        yield Site(world, broker)
    finally:
        world.end()
        broker.end()


def test_a_device_enrols_is_heard_and_is_cut_within_2_s_when_it_is_revoked(site: Site) -> None:
    for name in ("pi-1", "pi-2"):
        site.enrol(name)
    with site.world.client() as client, site.connect("pi-1") as device, site.connect("pi-2") as other:
        assert device.subscribe("fleet/v1/devices/pi-1/desired")
        assert not device.subscribe("fleet/v1/devices/pi-2/desired")
        presence = b'{"schema":1,"online":true,"session":"s"}'
        assert device.publish("fleet/v1/devices/pi-1/presence", presence, retain=True)
        wait_for("the controller to see it", lambda: client.device("pi-1").online)
        started = time.monotonic()
        revoked = client.revoke_device("pi-1")
        assert (revoked.enforced, revoked.cut) == (True, True)
        device.wait_until_gone()
        assert time.monotonic() - started < 2
        for _ in range(3):
            with pytest.raises(Refused):
                site.connect("pi-1").__enter__()
        assert other.is_connected()
    site.broker.end()
    site.broker.start()
    with pytest.raises(Refused):
        site.connect("pi-1").__enter__()
    with site.world.client() as client:
        wait_for("the broker to be back", lambda: client.health().broker == "connected")
        client.readmit_device("pi-1")
    wait_for("the device to be let in", lambda: site.is_let_in("pi-1"))


def test_an_agent_takes_a_model_is_cut_off_and_comes_back_by_itself(site: Site) -> None:
    agent = site.world.add_agent("pi-agent")
    try:
        with site.world.client() as client:
            register(client, "tiny", make_package())
            policy = Policy(soak_s=0.5, deadline_s=60)
            rollout = client.create_rollout("tiny", "name=pi-agent", variant=None, policy=policy)
            ended = wait_for_rollout(client, rollout.id)
            assert [one.state for one in ended.assignments] == ["succeeded"], ended
            assert client.revoke_device("pi-agent").cut
            assert not client.device("pi-agent").online
            client.readmit_device("pi-agent")
            wait_for("the agent to be back", lambda: client.device("pi-agent").online, timeout_s=150)
    finally:
        agent.end()


def test_a_controller_and_a_broker_that_start_again_know_who_may_come_in(site: Site) -> None:
    site.enrol("pi-3")
    site.enrol("pi-4")
    with site.world.client() as client:
        client.revoke_device("pi-4")
    site.world.controller.end()
    site.broker.end()
    site.broker.place.state.write_bytes((site.broker.place.folder / START_STATE).read_bytes())
    site.broker.start()
    assert not site.is_let_in("pi-3")
    site.world.controller.start()
    wait_for("the device to be let in", lambda: site.is_let_in("pi-3"))
    with pytest.raises(Refused):
        site.connect("pi-4").__enter__()


def test_another_broker_knows_the_devices_from_its_start(site: Site, tmp_path: Path) -> None:
    site.enrol("pi-5")
    site.enrol("pi-6")
    with site.world.client() as client:
        client.revoke_device("pi-6")
    done = run_fleet(
        "http://127.0.0.1:1", "broker", "config", "--out", str(tmp_path), "--host", "broker.example",
        "--data", site.world.controller.options["data"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    state = (tmp_path / START_STATE).read_text()
    assert '"pi-5"' in state
    assert '"pi-6"' not in state
