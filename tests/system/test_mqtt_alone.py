"""Devices that reach their broker and no blob server: models come in parts over MQTT. Real processes, real
brokers, and a network namespace out of which no other way leads."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_cloud.client.views import EventView
from fleet_shared.messages.desired import Policy
from tests.kit.cable import cable_to
from tests.kit.cut_off import relayed, wrap
from tests.kit.mosquitto import Mosquitto
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import BIN, Agent, World, running_world, wait_for_outcomes, wait_for_rollout
from tests.system.test_network import route_to_broker

pytestmark = pytest.mark.system

NAME = "pi-1"
BIG = 3_000_000
POLICY = Policy(soak_s=0.2, deadline_s=120)
BY_MQTT = {"FLEET_AGENT_TRANSFERS": "mqtt", "FLEET_AGENT_RETRY_CEILING_S": "1"}


def push(client: Client, seed: int, policy: Policy = POLICY, *, padding_bytes: int = BIG) -> str:
    """Register a version that no device has and push it; return the rollout."""
    register(client, "tiny", make_package(seed=seed, padding_bytes=padding_bytes))
    return client.create_rollout("tiny", "all", variant=None, policy=policy).id


def expect_success(client: Client, rollout: str, outcomes: int = 1) -> EventView:
    """Return the newest outcome of the device, which has to be this rollout's."""
    view = wait_for_rollout(client, rollout, timeout_s=120)
    assert view.state == "succeeded", view
    return wait_for_outcomes(client, NAME, outcomes)[-1]


def part_bytes(agent: Agent) -> int:
    return sum(file.stat().st_size for file in (agent.state / "downloads").glob("*.part"))


@contextmanager
def cut_off_agent(world: World, broker_port: int, *, swallows: bool = False) -> Iterator[Agent]:
    """An agent in a network of its own, out of which one relay leads to its broker: neither blobs nor release
    metadata can be had over HTTP, which is refused, or swallowed."""
    with relayed(world.folder / "broker.sock", broker_port) as relay, world.client() as client:
        swallowed = [world.controller.port] if swallows else []
        wrapper = wrap({broker_port: relay}, [str(BIN / "fleet-agent")], swallowed=swallowed)
        agent = Agent(NAME, world.folder, world.controller.url, wrapper=wrapper)
        agent.enrol(client.create_token({}, life_s=600))
        agent.start()
        try:
            wait_for(f"{NAME} to report itself", lambda: client.device(NAME).reported)
            yield agent
        finally:
            code = agent.end()
        assert code == 0


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_model_of_3_mb_reaches_a_device_that_has_mqtt_alone(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    options = {}
    if kind == "mosquitto":
        broker: Mosquitto = request.getfixturevalue("mosquitto")
        options = {"broker": broker.url}
    with running_world(tmp_path, options) as world, world.client() as client:
        port = broker.port if kind == "mosquitto" else world.controller.broker_port
        with cut_off_agent(world, port):
            outcome = expect_success(client, push(client, seed=1))
            detail = outcome.detail
            assert detail["bytes_over_broker"] == detail["bytes_fetched"] > BIG


@pytest.mark.long
def test_a_firewall_that_swallows_http_holds_a_push_up_and_does_not_end_it(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    with (
        running_world(tmp_path, {"broker": mosquitto.url}) as world,
        world.client() as client,
        cut_off_agent(world, mosquitto.port, swallows=True),
    ):
        assert expect_success(client, push(client, seed=1)).detail["bytes_over_broker"]
        again = expect_success(client, push(client, seed=2), outcomes=2)
        assert again.detail["bytes_over_broker"] == again.detail["bytes_fetched"]


@dataclass
class Site:
    world: World
    client: Client
    agent: Agent


@pytest.fixture
def site(tmp_path: Path, mosquitto: Mosquitto, s3: ObjectStore) -> Iterator[Site]:
    """A device that is told to use the broker only; blobs lie in an object store."""
    options = {"broker": mosquitto.url, "blobs": s3.url(tmp_path.name)}
    keys = {"FLEET_S3_ACCESS_KEY": ACCESS_KEY, "FLEET_S3_SECRET_KEY": SECRET_KEY}
    with running_world(tmp_path, options, keys) as world, world.client() as client:
        agent = Agent(NAME, tmp_path, world.controller.url, environment=BY_MQTT)
        agent.enrol(client.create_token({}, life_s=600))
        world.agents.append(agent)
        yield Site(world, client, agent)


@pytest.mark.long
def test_cut_offs_restarts_budgets_and_newer_pushes_over_mqtt(site: Site, mosquitto: Mosquitto) -> None:
    """The cable throttles what the broker says to the device, so that there is a middle to be cut off in."""
    with cable_to(mosquitto.port, bytes_per_s=1_000_000.0) as cable:
        route_to_broker(site.agent, cable.port)
        site.agent.start()
        wait_for(f"{NAME} to report itself", lambda: site.client.device(NAME).reported)

        rollout = push(site.client, seed=1)
        wait_for("a third of the download", lambda: part_bytes(site.agent) > BIG // 3)
        cable.cut()
        cable.plug()
        wait_for("two thirds of the download", lambda: part_bytes(site.agent) > 2 * BIG // 3)
        site.world.controller.end(signal.SIGKILL)
        site.world.controller.start()
        detail = expect_success(site.client, rollout).detail
        assert BIG < int(str(detail["bytes_fetched"])) < 1.3 * BIG, "it went on where it stood"
        assert detail["bytes_over_broker"] == detail["bytes_fetched"]

        small = Policy(soak_s=0.2, deadline_s=120, bytes_max=BIG // 2)
        assert fail(site.client, push(site.client, 2, small)) == "transfer.budget"
        hanging = push(site.client, 3)
        wait_for("a third of the download", lambda: part_bytes(site.agent) > BIG // 3)
        newer = push(site.client, 4, padding_bytes=0)
        assert expect_success(site.client, newer, outcomes=4).detail["bytes_over_broker"]
        assert fail(site.client, hanging) == "assignment.superseded"


def fail(client: Client, rollout: str) -> str:
    """Return the code with which the one assignment ended."""
    (assignment,) = wait_for_rollout(client, rollout).assignments
    assert assignment.failure is not None, assignment
    return assignment.failure.code
