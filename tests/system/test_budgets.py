"""A push that costs more bytes or memory than it may: refused before the download, waiting, or with a gap,
as its policy says. Real processes; a client keeps asking the old model."""

import pytest

from fleet_cloud.client import AssignmentView, Client
from fleet_shared.messages.desired import OverBudget, Policy, WhenTight
from tests.kit.asking import answering, asking
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import World, wait_for_outcomes, wait_for_rollout

pytestmark = pytest.mark.system

NAME = "pi-1"
BIG = 300_000
NO_MEMORY = {"FLEET_AGENT_MEMORY_MARGIN_BYTES": str(10**15)}


def begin(client: Client, policy: Policy, seed: int, padding_bytes: int = 0) -> str:
    register(client, "tiny", make_package(seed=seed, padding_bytes=padding_bytes))
    return client.create_rollout("tiny", "all", variant=None, policy=policy).id


def look(client: Client, rollout: str) -> tuple[str, str, int]:
    """Return the state, the code of the failure if there is one, and the bytes that came."""
    found = client.rollout(rollout).assignments
    return describe(found[0]) if found else ("", "", 0)


def describe(view: AssignmentView) -> tuple[str, str, int]:
    return view.state, "" if view.failure is None else view.failure.code, view.bytes_done or 0


@pytest.mark.long
def test_budgets_of_bytes_and_memory(world: World) -> None:
    agent = world.add_agent(NAME)
    with world.client() as client:
        first = begin(client, Policy(soak_s=0.2, deadline_s=60), 1)
        assert wait_for_rollout(client, first).state == "succeeded"
        agent.end()
        agent.environment = NO_MEMORY
        agent.start()
        port = agent.http_port
        wait_for("the worker", lambda: _answers(port))
        with answering(agent, "1.0.0"):
            rollout = begin(client, Policy(soak_s=0.2, deadline_s=60), 2)
            (refused,) = wait_for_rollout(client, rollout).assignments
            assert describe(refused) == ("failed", "memory.low", 0)
            small = Policy(soak_s=0.2, deadline_s=60, bytes_max=100_000, when_tight=WhenTight.GAP)
            rollout = begin(client, small, 3, BIG)
            (refused,) = wait_for_rollout(client, rollout).assignments
            assert describe(refused) == ("failed", "transfer.budget", 0)
            waits = Policy(
                soak_s=0.2, deadline_s=60, bytes_max=100_000, over_bytes=OverBudget.WAIT,
                when_tight=WhenTight.GAP,
            )  # fmt: skip
            rollout = begin(client, waits, 4, BIG)
            wait_for("it to wait", lambda: look(client, rollout) == ("downloading", "transfer.budget", 0))
        with asking(port) as clients:
            gap = Policy(soak_s=0.2, deadline_s=60, when_tight=WhenTight.GAP)
            assert wait_for_rollout(client, begin(client, gap, 5, BIG)).state == "succeeded"
            wait_for("the new model to answer", lambda: clients.answers["1.4.0"] or None)
        outcomes = wait_for_outcomes(client, NAME, 5)
        codes = [event.failure.code if event.failure else "" for event in outcomes]
        assert codes == ["", "memory.low", "transfer.budget", "update.superseded", ""]
        assert outcomes[-1].detail["gap_ms"] > 0
        print(f"gap {outcomes[-1].detail['gap_ms']} ms, {len(clients.failures)} requests failed in it")


def _answers(port: int) -> bool:
    with asking(port) as client:
        pass
    return bool(client.answers) and not client.failures
