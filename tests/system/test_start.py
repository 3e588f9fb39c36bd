"""An agent that starts while everything it needs is away."""

from pathlib import Path

import pytest

from fleet_agent.status import load_status
from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import World, wait_for_rollout

pytestmark = pytest.mark.system

AWAY = "the broker is away, and is tried again"


def test_an_agent_without_controller_and_broker_says_so_once_and_comes_when_they_do(
    world: World, tmp_path: Path
) -> None:
    agent = world.add_agent("pi-1")
    agent.end()
    world.controller.end()
    log = tmp_path / "pi-1.log"
    log.write_text("")
    agent.start()
    wait_for("the agent to say that the broker is away", lambda: AWAY in log.read_text())
    wait_for("several tries, with telemetry kept", lambda: load_status(agent.state).outbox_rows >= 20)
    world.controller.start()
    with world.client() as client:
        wait_for("the agent to be online", lambda: client.device("pi-1").online)
        register(client, "tiny", make_package())
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
    text = log.read_text()
    assert text.count(AWAY) == 1
    assert "Traceback" not in text
