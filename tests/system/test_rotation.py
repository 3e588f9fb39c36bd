"""Every key and the authority of a fleet are replaced while its agents run and pushes go on; and a controller
with yesterday's database goes on, with what was decided since."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import World, wait_for_rollout

pytestmark = [pytest.mark.system, pytest.mark.long]

Change = Callable[[Client], object]


def replace(role: str) -> Change:
    return lambda client: client.rotate(role, [], None)


def nothing(_client: Client) -> None:
    """The push after all changes."""


def begin_authority(client: Client) -> None:
    client.rotate_authority()


def finish_authority(client: Client) -> None:
    wait_for("every device to change", lambda: not client.authorities().behind, 600)
    assert not client.rotate_authority(finish=True).running


CHANGES: tuple[Change, ...] = (
    replace("root"),
    begin_authority,
    replace("targets"),
    replace("assignment"),
    finish_authority,
    replace("snapshot"),
    replace("timestamp"),
    replace("root"),
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [3, 20], ids="{} agents".format)
def test_keys_and_authority_are_replaced_while_agents_run_and_pushes_go_on(world: World, count: int) -> None:
    """Each change is made while a push is on its way. Nobody touches an agent; a last push is after all."""
    names = [f"pi-{number}" for number in range(count)]
    for name in names:
        world.add_agent(name)
    processes = [agent.pid for agent in world.agents]
    with world.client() as client:
        for number, change in enumerate((*CHANGES, nothing)):
            register(client, "tiny", make_package(seed=2 + number))
            policy = Policy(soak_s=0.2, deadline_s=60.0 * count)
            rollout = client.create_rollout("tiny", "all", variant=None, policy=policy)
            change(client)
            ended = wait_for_rollout(client, rollout.id, timeout_s=60.0 * count)
            states = {one.device: one.state for one in ended.assignments}
            assert states == dict.fromkeys(names, "succeeded"), (number, ended)
        assert client.authorities().holding == count
    assert [agent.pid for agent in world.agents] == processes


def test_a_database_of_yesterday_pushes_and_forgets_no_revocation(world: World) -> None:
    """Since the backup there were a push, an enrolment and a revocation."""
    data = world.folder / "controller"
    world.add_agent("pi-1")
    world.add_agent("pi-2")
    with world.client() as client:
        push(client, 1, {"pi-1", "pi-2"})
    back_up(world, data)
    with world.client() as client:
        push(client, 2, {"pi-1", "pi-2"})
        world.add_agent("pi-3")
        client.revoke_device("pi-2")
        push(client, 3, {"pi-1", "pi-3"})
    restore(world, data)
    with world.client() as client:
        push(client, 4, {"pi-1"})
        assert client.device("pi-2").revoked_ms is not None
        assert not client.device("pi-2").online
        assert [one.device for one in client.strangers()] == ["pi-3"]
        client.readmit_device("pi-3")
        wait_for("pi-3 to be back by itself", lambda: client.device("pi-3").online, 120)
        push(client, 5, {"pi-1", "pi-3"})


def back_up(world: World, data: Path) -> None:
    assert world.controller.end() == 0
    shutil.copy(data / "fleet.db", world.folder / "backup.db")
    world.controller.start()


def restore(world: World, data: Path) -> None:
    """The database alone: the keys are where they were."""
    assert world.controller.end() == 0
    for file in data.glob("fleet.db*"):
        file.unlink()
    shutil.copy(world.folder / "backup.db", data / "fleet.db")
    world.controller.start()


def push(client: Client, seed: int, devices: set[str]) -> None:
    """Push what no device has to all, and see it succeed on just these."""
    register(client, "tiny", make_package(seed=seed))
    policy = Policy(soak_s=0.2, deadline_s=120)
    ended = wait_for_rollout(client, client.create_rollout("tiny", "all", variant=None, policy=policy).id)
    assert {one.device: one.state for one in ended.assignments} == dict.fromkeys(devices, "succeeded"), ended
