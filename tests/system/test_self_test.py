"""A model that computes something else than was recorded never gets to serve."""

import numpy as np
import pytest

from fleet_shared.messages.desired import Policy
from tests.kit.inference import infer
from tests.kit.packages import make_package, register, spoil
from tests.kit.world import World, load_outcomes, wait_for_rollout

pytestmark = pytest.mark.system

INPUT = np.full((1, 8), 0.5, dtype=np.float32)


def test_wrong_golden_vectors_end_the_update_and_the_old_model_still_answers(world: World) -> None:
    agent = world.add_agent("pi-1")
    with world.client() as client:
        register(client, "tiny", make_package(seed=1))
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        assert wait_for_rollout(client, rollout.id).state == "succeeded"
        before = infer(agent.http_port, "tiny", [("x", INPUT)])
        register(client, "tiny", spoil(make_package(seed=2)))
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        (assignment,) = wait_for_rollout(client, rollout.id).assignments
        assert assignment.failure is not None
        assert (assignment.state, assignment.failure.code) == ("failed", "worker.golden.failed")
        after = infer(agent.http_port, "tiny", [("x", INPUT)])
        assert (after["model_version"], after["outputs"]) == ("1.0.0", before["outputs"])
        assert load_outcomes(client, "pi-1") == ["update.succeeded", "update.failed"]
        states = [change.state for change in client.history(assignment.id)]
        assert "switching" not in states
        reported = client.device("pi-1").reported
        assert reported is not None
        assert reported.active is not None
        assert reported.active.version == "1.0.0"
        assert reported.previous is None
