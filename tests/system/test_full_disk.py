"""A device whose disk is full, on a real small disk: it says so, and the old model goes on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.client import AssignmentView, Client
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Reported
from tests.kit.asking import answering
from tests.kit.inference import infer
from tests.kit.packages import make_package, register
from tests.kit.slow_proxy import slow_proxy
from tests.kit.small_disk import SmallDisk, small_disk
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, load_outcomes, wait_for_all_until_now, wait_for_rollout

pytestmark = pytest.mark.system

DISK = 12_000_000
BIG = 2_000_000
SLOW = 400_000.0
MARGIN = {"FLEET_AGENT_DISK_MARGIN_BYTES": "65536"}
INPUT = np.full((1, 8), 0.5, dtype=np.float32)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK) as mounted:
        yield mounted


def add_agent(world: World, disk: SmallDisk, url: str) -> Agent:
    """Return an agent on the small disk that runs tiny:1.0.0."""
    agent = world.add_agent(
        "pi-1", controller_url=url, state_folder=disk.folder / "state", environment=MARGIN
    )
    with world.client() as client:
        register(client, "tiny", make_package(seed=1))
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
        register(client, "tiny", make_package(seed=2, padding_bytes=BIG))
    return agent


def expect_refused(client: Client, rollout: str) -> AssignmentView:
    (assignment,) = wait_for_rollout(client, rollout).assignments
    assert assignment.failure is not None, assignment
    assert (assignment.state, assignment.failure.code) == ("failed", "disk.full")
    assert assignment.failure.hint
    return assignment


def expect_old_model(agent: Agent) -> None:
    assert infer(agent.http_port, "tiny", [("x", INPUT)])["model_version"] == "1.0.0"


def reported(client: Client) -> Reported:
    found = client.device("pi-1").reported
    assert found is not None
    return found


def answers(agent: Agent) -> bool:
    try:
        expect_old_model(agent)
    except (OSError, LookupError):
        return False
    return True


def test_too_little_room_is_said_before_the_download(disk: SmallDisk, world: World) -> None:
    agent = add_agent(world, disk, world.controller.url)
    disk.fill(leave_bytes=BIG + 500_000)
    with world.client() as client:
        with answering(agent, "1.0.0"):
            rollout = client.create_rollout(
                "tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60)
            )
            assignment = expect_refused(client, rollout.id)
        assert assignment.bytes_done == 0
        assert not list((agent.state / "downloads").glob("*"))
        expect_old_model(agent)
        assert load_outcomes(client, "pi-1") == ["update.succeeded", "update.failed"]
        disk.free()
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
        assert client.totals("pi-1").lost == 0


def test_a_disk_that_fills_up_during_the_download(disk: SmallDisk, world: World) -> None:
    """Not even the outcome can be written down then. It is said in the report all the same, and what the
    outbox held is not lost."""
    with slow_proxy(world.controller.port, SLOW) as proxy, world.client() as client:
        agent = add_agent(world, disk, f"http://127.0.0.1:{proxy.port}")
        downloads = agent.state / "downloads"
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        wait_for("the download to begin", lambda: any(f.stat().st_size for f in downloads.glob("*.part")))
        with answering(agent, "1.0.0"):
            disk.fill()
            expect_refused(client, rollout.id)
            troubles = wait_for("the device to say what is wrong", lambda: reported(client).trouble or None)
            assert {one.code for one in troubles} <= {"disk.full", "outbox.full"}
        assert agent.end() == 0
        disk.fill()
        agent.start()
        wait_for("the old model to serve on a full disk", lambda: answers(agent) or None)
        disk.free()
        wait_for_all_until_now(client, "pi-1")
        assert agent.end() == 0
        agent.start()
        wait_for("the outcome", lambda: len(load_outcomes(client, "pi-1")) == 2)
        assert load_outcomes(client, "pi-1") == ["update.succeeded", "update.failed"]
        expect_old_model(agent)
        totals = wait_for_all_until_now(client, "pi-1")
        assert (totals.lost, totals.rejected) == (0, 0)
