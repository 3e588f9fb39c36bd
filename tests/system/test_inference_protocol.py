"""A client that is not ours asks a real agent: ``tritonclient.http``, on float and int8 models, in every
form that it has, and through swaps by real pushes."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from fleet_agent.client import InferenceClient
from fleet_cloud.client import Client
from fleet_cloud.factory.package import Package, package
from fleet_shared.manifest import Metrics, Preprocessing
from fleet_shared.messages.desired import Policy
from tests.kit.engine import package_of
from tests.kit.packages import LABELS, make_package, register
from tests.kit.tiny_model import make_sum_and_product, make_tiny_model
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, load_outcomes, wait_for_rollout

pytestmark = pytest.mark.system

Array = NDArray[Any]
Triton: TypeAlias = tritonclient.http.InferenceServerClient
DATATYPES = {"float32": "FP32", "int8": "INT8"}
PACKED: tuple[dict[str, Any], ...] = (
    {},
    {"request_compression_algorithm": "gzip"},
    {"request_compression_algorithm": "deflate", "response_compression_algorithm": "gzip"},
)
SAMPLE = np.full((1, 8), 0.5, np.float32)
POLICY = Policy(soak_s=0.2, deadline_s=90)


def make_int8_package() -> Package:
    random = np.random.default_rng(0)
    return package(
        "int8",
        make_tiny_model(int8=True),
        labels=LABELS,
        preprocessing=Preprocessing(),
        metrics=Metrics(),
        candidates=[[random.integers(-128, 128, (1, 8)).astype(np.int8)] for _ in range(32)],
    )


def push(client: Client, name: str, one: Package) -> str:
    """Register a version and push it to all; return the version."""
    version = register(client, name, one).version
    rollout = client.create_rollout(name, "all", variant=None, policy=POLICY)
    ended = wait_for_rollout(client, rollout.id)
    assert ended.state == "succeeded", ended
    return str(version)


@contextmanager
def triton(agent: Agent) -> Iterator[Triton]:
    with Triton(f"127.0.0.1:{agent.http_port}") as client:
        yield client


def ask(
    client: Triton,
    model: str,
    arrays: dict[str, Array],
    *,
    binary: bool = True,
    json_inputs: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Array]:
    """Return all outputs. ``binary``: how inputs are sent, but for those in ``json_inputs``."""
    inputs = []
    for name, array in arrays.items():
        tensor = tritonclient.http.InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
        tensor.set_data_from_numpy(array, binary_data=binary and name not in json_inputs)
        inputs.append(tensor)
    answer = client.infer(model, inputs, **options)
    return {output["name"]: answer.as_numpy(output["name"]) for output in answer.get_response()["outputs"]}


def as_json(name: str) -> Any:
    return tritonclient.http.InferRequestedOutput(name, binary_data=False)


def as_binary(name: str) -> Any:
    return tritonclient.http.InferRequestedOutput(name, binary_data=True)


def check_model(agent: Agent, name: str, version: str, dtype: str) -> None:
    """Metadata, statistics, and every form of a request give the same answers as the agent's own client."""
    array = np.random.default_rng(4).normal(size=(3, 8)).clip(-2, 2)
    samples = (array * 32).astype(np.int8) if dtype == "int8" else array.astype(np.float32)
    with triton(agent) as client, InferenceClient(f"http://127.0.0.1:{agent.http_port}", name) as ours:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        assert not client.is_model_ready(name, "9.9.9")
        assert set(client.get_server_metadata()["extensions"]) == {"binary_tensor_data", "statistics"}
        metadata = client.get_model_metadata(name)
        assert (metadata["name"], metadata["versions"]) == (name, [version])
        assert metadata["inputs"] == [{"name": "x", "datatype": DATATYPES[dtype], "shape": [-1, 8]}]
        assert metadata["outputs"] == [{"name": "y", "datatype": DATATYPES[dtype], "shape": [-1, 4]}]
        wanted = ours.infer({"x": samples})["y"]
        assert wanted.shape == (3, 4)
        assert wanted.dtype == np.dtype(dtype)
        before = count(client, name)
        forms = [
            ask(client, name, {"x": samples}, binary=binary, outputs=outputs, model_version=asked, **packed)
            for binary in (True, False)
            for outputs in (None, [as_json("y")], [as_binary("y")])
            for asked in ("", version)
            for packed in PACKED
        ]
        for outputs in forms:
            np.testing.assert_array_equal(outputs["y"], wanted)
        after = count(client, name)
        assert (after[0] - before[0], after[1] - before[1]) == (3 * len(forms), len(forms))
        with pytest.raises(InferenceServerException, match="inputs must be") as caught:
            ask(client, name, {"z": samples}, binary=True)
        assert caught.value.status() == "400"
        with pytest.raises(InferenceServerException, match="this agent serves"):
            client.get_model_metadata("other")


def count(client: Triton, name: str) -> tuple[int, int]:
    """Return how many samples were answered, and in how many requests."""
    (stats,) = client.get_inference_statistics(name)["model_stats"]
    return stats["inference_count"], stats["inference_stats"]["success"]["count"]


def check_two_inputs(agent: Agent) -> None:
    """Tensors as bytes and as numbers in one request and in one answer."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.full((2, 3), 2.0, np.float32)
    with triton(agent) as client:
        for json_inputs in ((), ("a",), ("b",)):
            for outputs in (None, [as_json("sum"), as_binary("product")], [as_binary("product")]):
                got = ask(client, "two", {"b": b, "a": a}, json_inputs=json_inputs, outputs=outputs)
                np.testing.assert_array_equal(got["product"], a * b)
                if len(got) == 2:
                    np.testing.assert_array_equal(got["sum"], a + b)
        tensors = [tritonclient.http.InferInput(name, [2, 3], "FP32") for name in "ab"]
        for tensor, array in zip(tensors, (a, b), strict=True):
            tensor.set_data_from_numpy(array)
        answer = client.infer("two", tensors, request_id="7", parameters={"mine": "kept"}).get_response()
        assert (answer["id"], answer["parameters"]) == ("7", {"mine": "kept"})


def test_tritonclient_reads_and_infers_on_float_and_int8_models(world: World) -> None:
    agent = world.add_agent("pi-1")
    with world.client() as client:
        check_model(agent, "floats", push(client, "floats", make_package()), "float32")
        check_model(agent, "whole", push(client, "whole", make_int8_package()), "int8")
        push(client, "two", package_of(make_sum_and_product((1, 3)), [(1, 3), (1, 3)]))
    check_two_inputs(agent)


# -- load while the model is swapped


Ask = Callable[[], str]


@dataclass
class Asking:
    """An application that asks at its own steady times. ``connect``, called in the application's own thread,
    gives what asks and returns the version that answered."""

    connect: Callable[[], AbstractContextManager[Ask]]
    every_s: float
    versions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, stop: Event) -> None:
        due_s = time.monotonic()
        with self.connect() as ask:
            while not stop.wait(max(0.0, due_s - time.monotonic())):
                due_s += self.every_s
                try:
                    self.versions.append(ask())
                except Exception as exc:  # noqa: BLE001 - whatever it is, the application got no answer
                    self.failures.append(f"{type(exc).__name__}: {exc}")


@contextmanager
def under_load(applications: list[Asking]) -> Iterator[None]:
    stop = Event()
    threads = [Thread(target=one.run, args=(stop,)) for one in applications]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def triton_application(agent: Agent, every_s: float) -> Asking:
    """Triton's client sends a request once, whatever becomes of its connection."""
    address = f"127.0.0.1:{agent.http_port}"

    @contextmanager
    def connect() -> Iterator[Ask]:
        with Triton(address) as client:

            def infer() -> str:
                tensor = tritonclient.http.InferInput("x", [1, 8], "FP32")
                tensor.set_data_from_numpy(SAMPLE)
                return str(client.infer("tiny", [tensor]).get_response()["model_version"])

            yield infer

    return Asking(connect, every_s)


def own_application(address: str, every_s: float) -> Asking:
    @contextmanager
    def connect() -> Iterator[Ask]:
        with InferenceClient(address, "tiny") as client:
            yield lambda: client.infer({"x": SAMPLE}).version

    return Asking(connect, every_s)


def test_no_request_fails_while_five_pushes_swap_the_model(world: World) -> None:
    agent = world.add_agent("pi-1")
    with world.client() as client:
        versions = [push(client, "tiny", make_package(seed=1))]
        applications = [
            triton_application(agent, 0.01),
            triton_application(agent, 0.03),
            triton_application(agent, 0.9),  # idle for longer than a worker lingers
            own_application(f"http://127.0.0.1:{agent.http_port}", 0.02),
            own_application(f"unix:{agent.state}/inference.sock", 0.02),
        ]
        with under_load(applications):
            versions += [push(client, "tiny", make_package(seed=seed)) for seed in range(2, 7)]
            newest = versions[-1:]
            wait_for(
                "the last version to answer everybody",
                lambda: all(one.failures or one.versions[-1:] == newest for one in applications),
            )
        assert [one.failures for one in applications] == [[]] * len(applications)
        for one in applications:
            assert one.versions == sorted(one.versions), "an old version answered after a new one"
        assert set(applications[0].versions) == set(versions)
        assert load_outcomes(client, "pi-1") == ["update.succeeded"] * len(versions)
