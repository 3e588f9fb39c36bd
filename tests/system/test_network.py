"""The pulled-out network: a store that misbehaves, and a cable that is cut or hangs in the air. Real
processes, a real broker; each scenario with its outcome, as the controller got it, in a printed table.
A client keeps asking the model that runs, and is never left without an answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from fleet_agent.identity import load_identity, save_identity
from fleet_cloud.client import Client
from fleet_cloud.client.views import EventView
from fleet_shared.messages.desired import Policy
from tests.kit.asking import Asking, asking
from tests.kit.cable import Cable, cable_to
from tests.kit.faulty_proxy import (
    Fault,
    FaultyProxy,
    cut_after,
    damaged,
    drip,
    endless,
    faulty_proxy,
    reset,
    slowly,
    stall,
    status,
)
from tests.kit.mosquitto import Mosquitto
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, running_world, wait_for_all_until_now, wait_for_rollout

pytestmark = pytest.mark.system

NAME = "pi-1"
BIG = 800_000
SLOW = 400_000.0
IMPATIENT = {"FLEET_AGENT_RETRY_CEILING_S": "1", "FLEET_AGENT_TRANSFERS": "http"}
"""What a store does to downloads is seen where there is no other way than HTTP."""
FAST = Policy(soak_s=0.2, deadline_s=90)
PATIENT = Policy(soak_s=0.2, deadline_s=500)


@dataclass
class Network:
    """One device that runs tiny:1.0.0, behind a cable to its broker and one to its controller, with a
    store that a test can make misbehave."""

    world: World
    client: Client
    agent: Agent
    store: FaultyProxy
    cables: list[Cable]
    asked: Asking
    table: list[tuple[str, str, float]] = field(default_factory=list)
    pushes: int = 1

    def cut(self) -> None:
        for cable in self.cables:
            cable.cut()

    def pull(self) -> None:
        for cable in self.cables:
            cable.pull()

    def plug(self) -> None:
        for cable in self.cables:
            cable.plug()

    def push(self, policy: Policy = FAST, *, padding_bytes: int = 0) -> str:
        """Push a version that the device does not have; return the assignment's id."""
        self.pushes += 1
        register(self.client, "tiny", make_package(seed=self.pushes, padding_bytes=padding_bytes))
        rollout = self.client.create_rollout("tiny", "all", variant=None, policy=policy)

        def look() -> str | None:
            found = self.client.rollout(rollout.id).assignments
            return found[0].id if found else None

        return wait_for("the assignment", look)

    def outcome(self, assignment: str, timeout_s: float = 90) -> EventView:
        """Return the one outcome of an assignment, as an event that the controller got."""

        def look() -> list[EventView] | None:
            found = [
                event
                for event in self.client.events(NAME)
                if event.assignment == assignment and event.name.startswith("update.")
            ]
            return found or None

        (event,) = wait_for(f"the outcome of {assignment}", look, timeout_s)
        return event

    def state(self) -> str:
        return str(self.agent.read_record().get("state"))

    def part_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.agent.state / "downloads").glob("*.part"))

    def expect(
        self, scenario: str, assignment: str, expected: str, begin_s: float, timeout_s: float = 90
    ) -> EventView:
        event = self.outcome(assignment, timeout_s)
        code = event.failure.code if event.failure is not None else ""
        told = f"{event.name.removeprefix('update.')} {code}".strip()
        self.table.append((scenario, told, time.monotonic() - begin_s))
        assert told == expected, event
        if event.failure is not None:
            assert event.failure.hint, "it does not say what to do"
        return event


@pytest.fixture
def network(tmp_path: Path, mosquitto: Mosquitto, tell: Callable[[str], None]) -> Iterator[Network]:
    with ExitStack() as stack:
        world = stack.enter_context(running_world(tmp_path, {"broker": mosquitto.url}))
        client = stack.enter_context(world.client())
        store = stack.enter_context(faulty_proxy(world.controller.port))
        to_store = stack.enter_context(cable_to(store.port))
        to_broker = stack.enter_context(cable_to(mosquitto.port))
        agent = Agent(NAME, tmp_path, f"http://127.0.0.1:{to_store.port}", environment=IMPATIENT)
        agent.enrol(client.create_token({"name": NAME}, life_s=600))
        route_to_broker(agent, to_broker.port)
        agent.start()
        world.agents.append(agent)
        wait_for(f"{NAME} to report itself", lambda: client.device(NAME).reported)
        register(client, "tiny", make_package(seed=1))
        first = client.create_rollout("tiny", "all", variant=None, policy=FAST)
        assert wait_for_rollout(client, first.id).state == "succeeded"
        asked = stack.enter_context(asking(agent.http_port))
        one = Network(world, client, agent, store, [to_store, to_broker], asked)
        try:
            yield one
        finally:
            rows = [f"{scenario:55} {outcome:28} {seconds:7.1f}" for scenario, outcome, seconds in one.table]
            tell("\n".join([f"{'scenario':55} {'outcome':28} seconds", *rows]))
        assert asked.failures == [], "a client was left without an answer"
        assert asked.answers["1.0.0"] > 0
        one.plug()
        totals = wait_for_all_until_now(client, NAME)
        assert (totals.lost, totals.rejected) == (0, 0)


def route_to_broker(agent: Agent, port: int) -> None:
    """The device knows its broker by the address that enrolment gave it: the cable is put in between."""
    folder = agent.state / "identity"
    identity = load_identity(folder)
    broker = msgspec.structs.replace(identity.broker, port=port)
    save_identity(folder, msgspec.structs.replace(identity, broker=broker))


def run_faults(
    network: Network, faults: dict[str, tuple[list[Fault], Fault | None, str]], policy: Policy = FAST
) -> None:
    for scenario, (first, always, expected) in faults.items():
        network.store.tell(*first, always=always)
        begin_s = time.monotonic()
        network.expect(scenario, network.push(policy), expected, begin_s, policy.deadline_s)
    network.store.tell()


def test_a_store_that_misbehaves(network: Network) -> None:
    run_faults(
        network,
        {
            "blobs: 404": ([], status(404), "failed transfer.not_found"),
            "blobs: 410": ([], status(410), "failed transfer.gone"),
            "blobs: 403, and for the fresh address too": ([], status(403), "failed transfer.refused"),
            "blobs: a redirect": ([], status(302, Location="/"), "failed transfer.refused"),
            "blobs: endless data": ([], endless, "failed transfer.too_long"),
            "blobs: other bytes than were released": ([], damaged, "failed transfer.digest"),
            "blobs: 503 with Retry-After, then good": ([status(503, Retry_After="1")], None, "succeeded"),
        },
    )
    newer_push_during_silence(network)
    assert set(network.asked.answers) <= {"1.0.0", "1.7.0", "1.9.0"}, "a version answered that had failed"


def newer_push_during_silence(network: Network) -> None:
    network.store.tell(always=stall)
    begin_s = time.monotonic()
    hanging = network.push()
    wait_for("the download to hang", lambda: network.store.asked > 0)
    network.store.tell()
    newer = network.push()
    network.expect("blobs: silence, and a newer push: this one", hanging, "failed update.superseded", begin_s)
    network.expect("blobs: silence, and a newer push: the newer", newer, "succeeded", begin_s)


# -- the five scenarios of Mender's matrix


def lost_before_the_download(network: Network) -> None:
    begin_s = time.monotonic()
    network.cut()
    assignment = network.push()
    assert network.state() == "succeeded", "nothing reached it"
    network.plug()
    network.expect("network lost before the download", assignment, "succeeded", begin_s)


def lost_during_the_download(network: Network) -> None:
    begin_s = time.monotonic()
    network.store.tell(always=slowly(SLOW))
    assignment = network.push(padding_bytes=BIG)
    wait_for("a third of the download", lambda: network.part_bytes() > BIG // 3)
    network.cut()
    time.sleep(1.0)  # the outage itself
    network.plug()
    event = network.expect("network lost during the download, and back", assignment, "succeeded", begin_s)
    assert event.detail["bytes_fetched"] < 1.2 * BIG, "it began anew"
    network.store.tell()


def lost_during_the_install(network: Network) -> None:
    begin_s = time.monotonic()
    assignment = network.push(Policy(soak_s=1.0, deadline_s=90))
    wait_for("the install", lambda: network.state() in ("verifying", "self-testing", "switching"))
    network.cut()
    wait_for("the device to decide alone", lambda: network.state() == "succeeded")
    network.plug()
    network.expect("network lost during the install", assignment, "succeeded", begin_s)


def lost_before_the_report(network: Network) -> None:
    begin_s = time.monotonic()
    assignment = network.push(Policy(soak_s=2.0, deadline_s=90))
    wait_for("the trial", lambda: network.state() == "soaking")
    network.cut()
    wait_for("the end of the trial", lambda: network.state() == "succeeded")
    assert not [event for event in network.client.events(NAME) if event.assignment == assignment]
    network.plug()
    network.expect("network lost after the install, before the report", assignment, "succeeded", begin_s)


def lost_for_too_long(network: Network) -> None:
    begin_s = time.monotonic()
    network.store.tell(always=slowly(SLOW))
    assignment = network.push(Policy(soak_s=0.2, deadline_s=5), padding_bytes=BIG)
    wait_for("the download to begin", lambda: network.part_bytes() > 0)
    network.cut()
    wait_for("the device to give up", lambda: network.state() == "failed")
    network.plug()
    network.store.tell()
    event = network.expect(
        "network lost for longer than allowed", assignment, "failed update.deadline", begin_s
    )
    assert event.detail["failed_in"] == "downloading"
    begin_s = time.monotonic()
    network.expect("  and the next push after that", network.push(), "succeeded", begin_s)


SCENARIOS: list[Callable[[Network], None]] = [
    lost_before_the_download,
    lost_during_the_download,
    lost_during_the_install,
    lost_before_the_report,
    lost_for_too_long,
]


def test_a_network_that_is_lost_at_five_moments_of_an_update(network: Network) -> None:
    for scenario in SCENARIOS:
        scenario(network)


# -- what takes long


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_store_that_misbehaves_for_long(network: Network) -> None:
    run_faults(
        network,
        {
            "blobs: 503 for ever": ([], status(503, Retry_After="1"), "failed transfer.retries"),
            "blobs: 429 for ever": ([], status(429), "failed transfer.retries"),
            "blobs: connections reset, then good": ([reset] * 4, None, "succeeded"),
            "blobs: connections reset for ever": ([], reset, "failed transfer.retries"),
            "blobs: cut every 1000 bytes": ([], cut_after(1000), "succeeded"),
            "blobs: slow, and above the pace": ([], slowly(2000.0), "succeeded"),
            "blobs: silence, then good": ([stall], None, "succeeded"),
        },
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_store_that_drips(network: Network) -> None:
    run_faults(network, {"blobs: a byte now and then": ([], drip, "failed transfer.retries")}, PATIENT)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_cable_that_hangs_in_the_air(network: Network) -> None:
    """No end of a connection tells the device: its own time-outs have to."""
    begin_s = time.monotonic()
    network.store.tell(always=slowly(SLOW))
    assignment = network.push(Policy(soak_s=0.2, deadline_s=300), padding_bytes=BIG)
    wait_for("a third of the download", lambda: network.part_bytes() > BIG // 3)
    network.pull()
    time.sleep(100)  # the outage itself: longer than the keepalive and the read time-out
    network.plug()
    network.store.tell()
    network.expect("cable in the air for 100 s in a download", assignment, "succeeded", begin_s)
