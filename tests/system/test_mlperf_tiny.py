"""Somebody else's models, from file to answers: the reference models of MLPerf Tiny.

They are not in this repository: FLEET_BENCH_DATA names the folder that has ``mlperf-tiny/*.tflite``.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kit.commands import run_fleet
from tests.kit.inference import infer, load
from tests.kit.tflite_agent import find_tflite_agent
from tests.kit.world import Agent, World

pytestmark = [pytest.mark.system, pytest.mark.bench]

MODELS = ("pretrainedResnet", "pretrainedResnet_quant", "vww_96_float", "vww_96_int8")


@pytest.fixture
def files() -> Path:
    folder = Path(os.environ.get("FLEET_BENCH_DATA", "")) / "mlperf-tiny"
    if not folder.is_dir():
        pytest.skip("FLEET_BENCH_DATA names no folder that holds mlperf-tiny/*.tflite")
    return folder


def fleet(world: World, *words: str) -> str:
    done = run_fleet(world.controller.url, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load_golden(agent: Agent) -> dict[str, NDArray[Any]]:
    """Return the golden vectors of the slot that the agent runs."""
    active = json.loads((agent.state / "slots.json").read_text())["active"]
    with np.load(agent.state / "slots" / active["manifest"] / "golden.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("model", MODELS)
def test_an_imported_model_is_pushed_and_answers(world: World, files: Path, model: str) -> None:
    name = model.lower()
    agents = [world.add_agent("pi-1")]
    if (other := find_tflite_agent()) is not None:
        agents.append(world.add_agent("pi-2", binary=other))
    fleet(world, "model", "import", str(files / f"{model}.tflite"), "--name", name, "--colour", "rgb")
    pushed = fleet(world, "push", name, "--to", "all", "--soak", "0.5")
    assert f"runs on {len(agents)} of {len(agents)} devices" in pushed
    with world.client() as client:
        (variant,) = client.version(name, "1.0.0").variants
        active = [found.active for device in client.devices() if (found := device.reported) is not None]
    runtimes = [running.runtime for running in active if running is not None]
    assert runtimes == (["litert"] if other is None else ["litert", "tflite_runtime"])
    assert variant.accuracy is None
    scale = variant.contract.outputs[0].quantization
    for agent in agents:
        golden = load_golden(agent)
        metadata = load(agent.http_port, f"models/{name}")
        (answer,) = infer(agent.http_port, name, [(metadata["inputs"][0]["name"], golden["input_0"][:1])])[
            "outputs"
        ]
        wanted = golden["output_0"][:1].astype(float)
        difference = np.abs(np.array(answer["data"]).reshape(wanted.shape) - wanted).max()
        assert difference * (scale.scale if scale else 1.0) <= variant.contract.golden.tolerance
