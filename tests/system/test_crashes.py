"""Kill -9 in a download, of the controller, and outages: nothing is lost. (Every other point of a kill:
`test_crash_points`.)"""

import signal
import time
from pathlib import Path

import pytest

from fleet_shared.messages.desired import Policy
from tests.kit.mosquitto import Mosquitto
from tests.kit.packages import make_package, register
from tests.kit.slow_proxy import slow_proxy
from tests.kit.waiting import wait_for
from tests.kit.world import (
    Agent,
    World,
    load_outcomes,
    running_world,
    wait_for_all_until_now,
    wait_for_outcomes,
    wait_for_rollout,
)

pytestmark = pytest.mark.system

BIG = 3_000_000
SLOW = 700_000.0


def part_bytes(agent: Agent) -> int:
    return sum(file.stat().st_size for file in (agent.state / "downloads").glob("*.part"))


def test_kill_in_the_middle_of_a_download_resumes_it(world: World) -> None:
    with slow_proxy(world.controller.port, SLOW) as proxy, world.client() as client:
        agent = world.add_agent("pi-1", controller_url=f"http://127.0.0.1:{proxy.port}")
        register(client, "big", make_package(padding_bytes=BIG))
        rollout = client.create_rollout("big", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=120))
        wait_for("a third of the download", lambda: part_bytes(agent) > BIG // 3)
        agent.end(signal.SIGKILL)
        before = part_bytes(agent)
        agent.start()
        ended = wait_for_rollout(client, rollout.id)
        assert ended.state == "succeeded", ended
        assert load_outcomes(client, "pi-1") == ["update.succeeded"]
        (outcome,) = wait_for_outcomes(client, "pi-1", 1)
        assert outcome.detail["bytes_resumed"] >= before
        assert outcome.detail["bytes_fetched"] + outcome.detail["bytes_resumed"] < 1.1 * BIG
        assert outcome.detail["resumes"] == 1


def test_kill_of_the_controller_during_a_push(world: World) -> None:
    with slow_proxy(world.controller.port, SLOW) as proxy:
        agent = world.add_agent("pi-1", controller_url=f"http://127.0.0.1:{proxy.port}")
        with world.client() as client:
            register(client, "big", make_package(padding_bytes=BIG))
            rollout = client.create_rollout(
                "big", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=120)
            )
            wait_for("the download to begin", lambda: part_bytes(agent) > 0)
        world.controller.end(signal.SIGKILL)
        world.controller.start()
        with world.client() as client:
            assert wait_for_rollout(client, rollout.id).state == "succeeded"
            assert load_outcomes(client, "pi-1") == ["update.succeeded"]
            assert client.totals("pi-1").lost == 0


@pytest.mark.long  # on a real small disk: test_full_disk
def test_a_full_disk_is_said_before_the_download_and_the_old_model_goes_on(world: World) -> None:
    agent = world.add_agent("pi-1")
    with world.client() as client:
        register(client, "tiny", make_package(seed=1))
        first = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, first.id).state == "succeeded"
        agent.end()
        agent.environment = {"FLEET_AGENT_DISK_MARGIN_BYTES": str(10**15)}
        agent.start()
        register(client, "tiny", make_package(seed=2))
        second = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        ended = wait_for_rollout(client, second.id)
        (assignment,) = ended.assignments
        assert assignment.failure is not None
        assert (assignment.state, assignment.failure.code) == ("failed", "disk.full")
        assert assignment.bytes_done == 0
        reported = client.device("pi-1").reported
        assert reported is not None
        assert reported.active is not None
        assert reported.active.version == "1.0.0"


def outage(tmp_path: Path, mosquitto: Mosquitto, seconds: float) -> None:
    with running_world(tmp_path, {"broker": mosquitto.url}) as world, world.client() as client:
        world.add_agent("pi-1", environment={"FLEET_AGENT_RETRY_CEILING_S": "2"})
        wait_for("telemetry", lambda: client.totals("pi-1").samples >= 5)
        mosquitto.kill()
        begin_ms = time.time() * 1000
        time.sleep(seconds)  # the outage itself, not a wait for something
        end_ms = time.time() * 1000
        during = client.totals("pi-1").samples
        mosquitto.start()
        totals = wait_for_all_until_now(client, "pi-1")
        assert (totals.lost, totals.thinned, totals.rejected) == (0, 0, 0)
        series = client.series("pi-1", metric="cpu_percent", source="host", since_ms=0, limit=10_000)
        measured = [p for one in series for p in one.points if begin_ms < p.at_ms < end_ms]
        made = seconds / 0.2 * 0.7  # the agent samples every 0.2 s; a loaded machine is slower
        assert len(measured) >= made, "nothing was recorded while the broker was away"
        assert totals.samples >= during + len(measured) * 0.9, "it was there before the broker was back"


def test_a_broker_that_is_gone_for_ten_seconds_loses_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    outage(tmp_path, mosquitto, 10)


@pytest.mark.long
def test_a_broker_that_is_gone_for_a_minute_loses_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    outage(tmp_path, mosquitto, 60)
