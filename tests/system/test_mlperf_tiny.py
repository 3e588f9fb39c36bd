"""Somebody else's models, from file to answers: the reference models of MLPerf Tiny, on every runtime.

They are not in this repository: FLEET_BENCH_DATA names the folder that has ``mlperf-tiny/*.tflite``.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kit.commands import run_fleet
from tests.kit.inference import infer, load
from tests.kit.tflite_agent import find_tflite_agent
from tests.kit.world import Agent, World, wait_for_outcomes

pytestmark = [pytest.mark.system, pytest.mark.bench, pytest.mark.timeout(600)]

MODELS = ("pretrainedResnet", "pretrainedResnet_quant", "vww_96_float", "vww_96_int8")
RUNTIMES = ("litert", "tflite_runtime", "openvino", "tvm")


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


def add_agents(world: World) -> dict[str, Agent]:
    """One device for each runtime, which may use no other."""
    agents = {}
    for runtime in RUNTIMES:
        options: dict[str, object] = {"environment": {"FLEET_AGENT_RUNTIMES": runtime}}
        if runtime == "tflite_runtime":
            options["binary"] = binary = find_tflite_agent()
            assert binary is not None, "four runtimes are compared: make tflite says what is missing"
        agents[runtime] = world.add_agent(runtime.replace("_", "-"), **options)
    return agents


def find_difference(agent: Agent, model: str) -> float:
    """Return how far the agent's answers over HTTP are from the golden vectors, in steps of the tensor."""
    golden = load_golden(agent)
    metadata = load(agent.http_port, f"models/{model}")
    name, worst = metadata["inputs"][0]["name"], 0.0
    for sample in range(len(golden["input_0"])):
        given = golden["input_0"][sample : sample + 1]
        (answer,) = infer(agent.http_port, model, [(name, given)])["outputs"]
        expected = golden["output_0"][sample : sample + 1].astype(float)
        worst = max(worst, np.abs(np.array(answer["data"]).reshape(expected.shape) - expected).max())
    return worst


@pytest.mark.parametrize("model", MODELS)
def test_the_same_answers_on_every_runtime(
    world: World, files: Path, model: str, tell: Callable[[str], None]
) -> None:
    name = model.lower()
    agents = add_agents(world)
    fleet(world, "model", "import", str(files / f"{model}.tflite"), "--name", name, "--colour", "rgb")
    fleet(world, "push", name, "--to", "all", "--soak", "0.5")
    with world.client() as client:
        (variant,) = client.version(name, "1.0.0").variants
        assert variant.accuracy is None
        running = {found.id: found.reported.active for found in client.devices() if found.reported}
    step = variant.contract.outputs[0].quantization
    scale = step.scale if step is not None else 1.0
    lines = []
    for runtime, agent in agents.items():
        active = running[agent.name]
        assert active is not None
        assert active.runtime == runtime
        worst = find_difference(agent, name) * scale
        lines.append(f"{model:<24}{runtime:<16}{worst:10.3g} of {variant.contract.golden.tolerance:.3g}")
        assert worst <= variant.contract.golden.tolerance, lines[-1]
    tell("\n".join(lines))


def test_an_update_measures_every_runtime_and_the_fastest_that_passes_serves(
    world: World, files: Path, tell: Callable[[str], None]
) -> None:
    agent = world.add_agent("pi-1", environment={"FLEET_AGENT_RUNTIMES": "tvm,openvino,litert"})
    fleet(world, "model", "import", str(files / "vww_96_int8.tflite"), "--name", "vww", "--colour", "rgb")
    fleet(world, "push", "vww", "--to", "all", "--soak", "0.5", "--policy", "benchmark=true")
    with world.client() as client:
        (outcome,) = wait_for_outcomes(client, agent.name, 1)
        rows = [event.detail for event in client.events(agent.name) if event.name == "benchmark.row"]
        reported = client.device(agent.name).reported
    assert {row["runtime"] for row in rows} == {"tvm", "openvino", "litert"}
    passed = [row for row in rows if row["passed"]]
    best = min(passed, key=lambda row: row["latency_p50_us"])
    assert outcome.name == "update.succeeded"
    assert (outcome.detail["benchmark_runtime"], outcome.detail["runtime"]) == (best["runtime"],) * 2
    assert reported is not None
    assert reported.active is not None
    assert (reported.active.runtime, reported.active.threads) == (best["runtime"], best["threads"])
    shown = subprocess.run(
        [str(agent.binary), "benchmark", "--state", str(agent.state), "--threads", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = [f"{row['runtime']} x{row['threads']}: {row['latency_p50_us']} us" for row in rows]
    tell("\n".join([*measured, shown.stdout]))
