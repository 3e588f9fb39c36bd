"""What a worn memory card does: a read-only disk, and files that rot. Real processes and a real small
disk. Each time: the report that the controller got, and a model that answers a client throughout."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_cloud.client.views import EventView
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Reported
from tests.kit.asking import answering, asking
from tests.kit.packages import make_package, register
from tests.kit.small_disk import SmallDisk, small_disk
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, wait_for_all_until_now, wait_for_rollout

pytestmark = pytest.mark.system

NAME = "pi-1"
FAST = Policy(soak_s=0.2, deadline_s=90)
SETTINGS = {"FLEET_AGENT_DISK_MARGIN_BYTES": "65536", "FLEET_AGENT_RETRY_CEILING_S": "1"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 12_000_000) as mounted:
        yield mounted


def push(client: Client, seed: int) -> str:
    """Push a version with other weights; return its number."""
    version = register(client, "tiny", make_package(seed=seed)).version
    rollout = client.create_rollout("tiny", "all", variant=None, policy=FAST)
    assert wait_for_rollout(client, rollout.id).state == "succeeded"
    return version


def reported(client: Client) -> Reported:
    found = client.device(NAME).reported
    assert found is not None
    return found


def wait_for_event(client: Client, name: str, count: int = 1) -> list[EventView]:
    """Return the events of this name, once the controller has so many."""

    def look() -> list[EventView] | None:
        found = [event for event in client.events(NAME) if event.name == name]
        return found if len(found) >= count else None

    return wait_for(f"{count} {name}", look)


def wait_for_running(client: Client, active: str | None, previous: str | None) -> None:
    def look() -> bool:
        now = reported(client)
        found = [None if one is None else one.version for one in (now.active, now.previous)]
        return found == [active, previous]

    wait_for(f"the device to report {active} and {previous}", look)


@contextmanager
def stopped(agent: Agent) -> Iterator[Path]:
    """The agent's state folder, while it does not run."""
    assert agent.end() == 0
    yield agent.state
    agent.start()


def find_model(state: Path, which: str) -> Path:
    running: dict[str, str] = json.loads((state / "slots.json").read_text())[which]
    return state / "slots" / running["manifest"] / "model.tflite"


def rot(file: Path) -> None:
    """One bit of the middle of a file turns over."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def rot_database(file: Path) -> None:
    """Garbage takes the place of the database and its log, under the process that has them open; a last
    honest write makes it look at the disk again."""
    with sqlite3.connect(file) as other:
        other.execute("INSERT INTO once VALUES ('x')")
    other.close()
    for one in (file, file.with_name(file.name + "-wal")):
        with one.open("r+b") as content:
            content.write(os.urandom(one.stat().st_size))


def wait_for_answers(agent: Agent, version: str) -> None:
    def look() -> bool:
        with asking(agent.http_port) as client:
            pass
        return set(client.answers) == {version} and not client.failures

    wait_for(f"{version} to answer", look)


def test_a_disk_that_is_read_only_at_the_start(disk: SmallDisk, world: World) -> None:
    agent = world.add_agent(NAME, state_folder=disk.folder / "state", environment=SETTINGS)
    with world.client() as client:
        first = push(client, 1)
        with stopped(agent):
            disk.remount("ro")
        wait_for_answers(agent, first)
        with answering(agent, first):
            second = register(client, "tiny", make_package(seed=2)).version
            rollout = client.create_rollout("tiny", "all", variant=None, policy=FAST)

            def look() -> set[str] | None:
                codes = {one.code for one in reported(client).trouble}
                return codes if len(codes) > 1 else None

            codes = wait_for("the device to say what is wrong", look)
            assert "trust.storage" in codes
            assert codes & {"outbox.failed", "outbox.readonly"}
            assert all(one.hint for one in reported(client).trouble)
            assert client.rollout(rollout.id).state == "running"
        disk.remount("rw")
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
        wait_for_answers(agent, second)
        wait_for("the trouble to be over", lambda: not reported(client).trouble)
        assert wait_for_event(client, "desired.unverified")
        totals = wait_for_all_until_now(client, NAME)
        assert (totals.lost, totals.rejected) == (0, 0)


@pytest.mark.long
def test_files_that_rot(world: World) -> None:
    """One device, whose files rot one after the other."""
    agent = world.add_agent(NAME, environment=SETTINGS)
    with world.client() as client:
        first, second = push(client, 1), push(client, 2)
        rotten_outbox_at_the_start(client, agent, second)
        rotten_outbox_under_way(client, agent, second)
        rotten_previous_model(client, agent, first, second)
        third = push(client, 3)
        wait_for_running(client, third, second)
        rotten_active_model(client, agent, second, third)
        fourth = push(client, 4)
        wait_for_running(client, fourth, third)
        rotten_record(client, agent, fourth)
        fifth = push(client, 5)
        wait_for_running(client, fifth, fourth)
        wait_for_all_until_now(client, NAME)
        outcomes = [event.name for event in client.events(NAME) if event.name.startswith("update.")]
        assert outcomes == ["update.succeeded"] * 5


def rotten_record(client: Client, agent: Agent, running: str) -> None:
    with stopped(agent) as state:
        (state / "update.json").write_bytes(os.urandom(500))
    wait_for_answers(agent, running)
    with answering(agent, running):
        (event,) = wait_for_event(client, "record.damaged")
    assert Path(str(event.detail["kept_as"])).exists()


def rotten_outbox_at_the_start(client: Client, agent: Agent, running: str) -> None:
    with stopped(agent) as state:
        (state / "outbox.db").write_bytes(os.urandom(20_000))
    wait_for_answers(agent, running)
    with answering(agent, running):
        (event,) = wait_for_event(client, "outbox.reset")
    assert Path(str(event.detail["kept_as"])).exists()


def rotten_outbox_under_way(client: Client, agent: Agent, running: str) -> None:
    pid = agent.pid
    with answering(agent, running):
        rot_database(agent.state / "outbox.db")
        wait_for_event(client, "outbox.reset", 2)
        wait_for_all_until_now(client, NAME)
    assert agent.pid == pid
    assert len(list(agent.state.glob("outbox*.damaged"))) == 1, "damaged files pile up"


def rotten_previous_model(client: Client, agent: Agent, previous: str, active: str) -> None:
    with stopped(agent) as state:
        wait_for_running(client, active, previous)
        rot(find_model(state, "previous"))
    wait_for_answers(agent, active)
    with answering(agent, active):
        (event,) = wait_for_event(client, "slot.damaged")
        assert event.failure is not None
        assert (event.failure.code, event.detail["version"]) == ("slot.damaged", previous)
        wait_for_running(client, active, None)


def rotten_active_model(client: Client, agent: Agent, previous: str, active: str) -> None:
    """The one before answers until the device has fetched it again, with nobody's help."""
    with stopped(agent) as state:
        rot(find_model(state, "active"))
    wait_for("an answer", lambda: answers_at_all(agent))
    with asking(agent.http_port) as asked:
        event = wait_for_event(client, "slot.damaged", 2)[-1]
        assert event.detail["version"] == active
        (repaired,) = wait_for_event(client, "slot.repaired")
        assert (repaired.detail["version"], repaired.detail["tries"]) == (active, 1)
        wait_for_running(client, active, previous)
    assert not asked.failures
    assert set(asked.answers) <= {previous, active}
    wait_for_answers(agent, active)


def answers_at_all(agent: Agent) -> bool:
    with asking(agent.http_port) as client:
        pass
    return bool(client.answers) and not client.failures
