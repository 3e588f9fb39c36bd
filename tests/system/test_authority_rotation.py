"""The authority of a whole fleet is replaced while agents run: no push fails, and no agent needs a hand."""

import pytest

from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import World, wait_for_rollout

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("count", [2, 20], ids="{} agents".format)
def test_an_authority_is_replaced_while_agents_run_and_take_pushes(world: World, count: int) -> None:
    names = [f"pi-{number}" for number in range(1, count + 1)]
    for name in names:
        world.add_agent(name)
    with world.client() as client:
        push(client, count, seed=1)
        before = client.authorities()
        client.rotate_authority()
        push(client, count, seed=2)
        wait_for("every device to change", lambda: not client.authorities().behind, timeout_s=300)
        push(client, count, seed=3)
        after = client.rotate_authority(finish=True)
        assert after.fingerprints[0] not in before.fingerprints
        assert (after.running, after.devices, after.holding) == (False, count, count)
        push(client, count, seed=4)
        world.add_agent("late")
        push(client, count + 1, seed=5)
        world.controller.end()
        world.controller.start()
    with world.client() as client:
        push(client, count + 1, seed=6)


def push(client: Client, count: int, seed: int) -> None:
    """Push a new version to all, and see each device succeed."""
    register(client, "tiny", make_package(seed=seed))
    rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=240))
    ended = wait_for_rollout(client, rollout.id, timeout_s=300)
    assert [a.state for a in ended.assignments] == ["succeeded"] * count, ended
