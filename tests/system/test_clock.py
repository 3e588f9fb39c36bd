"""A device that boots in 1970: it takes a push, and its rows get their times once it knows the time."""

import time
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.wall_clock import WallClock
from tests.kit.world import World, load_outcomes, wait_for_rollout

pytestmark = pytest.mark.system


def load_wall_times(client: Client, device: str) -> dict[str, int | None]:
    """The wall time of the newest event of each name."""
    return {event.name: event.wall_ms for event in client.events(device)}


def test_an_agent_started_in_1970_installs_a_model_and_its_rows_are_dated_later(
    world: World, tmp_path: Path
) -> None:
    began_ms = time.time() * 1000
    clock = WallClock(tmp_path)
    clock.set(300 - time.time())  # five minutes into 1970
    world.add_agent("pi-1", environment=clock.environment)
    with world.client() as client:
        register(client, "tiny", make_package())
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
        undated = wait_for("the outcome to arrive", lambda: _outcome(load_wall_times(client, "pi-1")))
        assert undated["agent.started"] is None
        assert undated["update.succeeded"] is None
        clock.set(0)
        dated = wait_for("the time to be known", lambda: _known(load_wall_times(client, "pi-1")))
        for name in ("agent.started", "update.succeeded", "clock.known"):
            at_ms = dated[name]
            assert at_ms is not None, f"{name} was not dated"
            assert began_ms - 1000 < at_ms < time.time() * 1000 + 1000, name
        assert dated["agent.started"] <= dated["update.succeeded"] <= dated["clock.known"]  # type: ignore[operator]
        assert load_outcomes(client, "pi-1") == ["update.succeeded"]


def _outcome(times: dict[str, int | None]) -> dict[str, int | None] | None:
    return times if "update.succeeded" in times else None


def _known(times: dict[str, int | None]) -> dict[str, int | None] | None:
    return times if "clock.known" in times else None
