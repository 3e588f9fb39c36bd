"""A device refuses, before the download, what its runtime cannot run; others run it."""

import numpy as np
import pytest

from fleet_cloud.factory.package import package
from fleet_shared.manifest import Metrics, Preprocessing
from fleet_shared.messages.desired import Policy
from tests.kit.inference import infer
from tests.kit.packages import LABELS, register
from tests.kit.tiny_model import make_dynamic_model
from tests.kit.world import World, wait_for_rollout

pytestmark = pytest.mark.system


def test_a_dynamic_range_model_runs_on_openvino_and_is_refused_for_tvm(world: World) -> None:
    able = world.add_agent("pi-1", environment={"FLEET_AGENT_RUNTIMES": "openvino"})
    unable = world.add_agent("pi-2", environment={"FLEET_AGENT_RUNTIMES": "tvm"})
    random = np.random.default_rng(0)
    made = package(
        "dynamic", make_dynamic_model(), labels=LABELS, preprocessing=Preprocessing(), metrics=Metrics(),
        candidates=[[random.normal(size=(1, 8)).astype(np.float32)] for _ in range(20)],
    )  # fmt: skip
    with world.client() as client:
        register(client, "tiny", made)
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=60))
        ended = {one.device: one for one in wait_for_rollout(client, rollout.id).assignments}
        assert ended["pi-1"].state == "succeeded", ended
        assert ended["pi-2"].state == "refused"
        assert ended["pi-2"].bytes_done == 0
        failure, reported = ended["pi-2"].failure, client.device("pi-2").reported
    assert failure is not None
    assert failure.code == "variant.none_fits"
    assert "integer weights with float input (dynamic range) are not imported" in failure.message
    assert reported is not None
    assert [one.name for one in reported.facts.runtimes] == ["tvm"]
    assert {one.name: one.reason for one in reported.facts.runtimes_unavailable}["litert"].startswith(
        "the setting"
    )
    assert not list(unable.state.glob("slots/*")), "nothing was downloaded"
    x = np.ones((1, 8), dtype=np.float32)
    (answer,) = infer(able.http_port, "tiny", [("x", x)])["outputs"]
    assert np.allclose(answer["data"], [10.204725, -6.1102366, 4.9133863, -9.7007885], atol=0.1)
