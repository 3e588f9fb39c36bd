"""A device that was switched off for a hundred days: its metadata and its broker's certificate have ended,
and it needs no hand. All processes really live at their times, native code included."""

import os
import time
from pathlib import Path

import pytest

from fleet_agent.link.note import load_note
from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from tests.kit.asking import answering
from tests.kit.packages import make_package, register
from tests.kit.time_shift import make_time_shift
from tests.kit.waiting import wait_for
from tests.kit.world import running_world, wait_for_rollout

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(300)]

AWAY_DAYS = 100
DAY_MS = 86_400_000
IMPATIENT = {"FLEET_AGENT_RETRY_CEILING_S": "0.5"}
POLICY = Policy(soak_s=0.2, deadline_s=120)


def push(client: Client, seed: int) -> str:
    register(client, "tiny", make_package(seed=seed))
    rollout = client.create_rollout("tiny", "all", variant=None, policy=POLICY)
    return wait_for_rollout(client, rollout.id).state


def test_metadata_and_broker_certificate_ended_while_a_device_was_away(tmp_path: Path) -> None:
    past = make_time_shift(tmp_path, -AWAY_DAYS)
    with running_world(tmp_path, environment=past) as world:
        with world.client() as client:
            agent = world.add_agent("pi-1", inherited={**os.environ, **past}, environment=IMPATIENT)
            assert push(client, 1) == "succeeded"
            first = client.device("pi-1").reported
            assert first is not None
            assert first.trust is not None
            assert days_left(first.trust.metadata_expires_ms) < 0
            assert 75 < days_left(first.trust.certificate_expires_ms) < 85
        assert agent.end() == 0

        # The device is on again, and its controller is still what it was.
        agent.inherited = dict(os.environ)
        agent.start()
        with answering(agent, "1.0.0"):
            wait_for("the device to refuse its broker", lambda: "certificate ended" in link(agent.state))

            # Whoever renewed nothing for so long starts anew, today.
            assert world.controller.end() == 0
            world.controller.environment = {}
            world.controller.start()
            with world.client() as client:
                wait_for("the device to come back", lambda: client.device("pi-1").online)
        with world.client() as client:
            assert push(client, 2) == "succeeded"

            def renewed() -> bool:
                reported = client.device("pi-1").reported
                assert reported is not None
                assert reported.trust is not None
                return days_left(reported.trust.certificate_expires_ms) > 170

            wait_for("the device's own certificate to be renewed", renewed)


def days_left(at_ms: int | None) -> float:
    return (at_ms or 0) / DAY_MS - time.time() / 86_400


def link(state: Path) -> str:
    note = load_note(state / "link.json")
    return "" if note is None or note.online else note.reason
