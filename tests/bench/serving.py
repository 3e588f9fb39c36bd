"""What serving costs beside the model itself, and beside MLServer with the same file and client.

All cases take turns in rounds: a busy moment of the machine hits all alike. Times are of whole requests
as an application sees them, over a connection that is kept.
"""

import base64
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import tritonclient.http
from numpy.typing import NDArray

from fleet_agent.client import InferenceClient
from fleet_agent.runtimes.litert import LiteRt
from tests.bench.data import find_person_model, pack
from tests.bench.mlserver import running_mlserver
from tests.bench.timing import rank, time_calls
from tests.bench.workers import Device, running_device
from tests.kit.engine import write_slot

ROUNDS: Final = 30
CALLS: Final = 40
JSON_CALLS: Final = 4
WARM_UP: Final = 20
CONNECTIONS: Final = (1, 2, 4, 8)
TOGETHER: Final = 800
"""Requests of all connections together."""

LOOP: Final = "the model in a loop"
PEER_JSON: Final = "MLServer, HTTP, JSON, tritonclient"
PEER_BASE64: Final = "MLServer, HTTP, base64, tritonclient"

Array = NDArray[Any]
Call = Callable[[], object]


def measure_serving() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        file, what = find_person_model(folder)
        device = stack.enter_context(running_device(folder))
        device.slots["1.0.0"] = write_slot(folder / "slot", pack(file), model="bench")
        device.serve("1.0.0")
        mlserver = stack.enter_context(running_mlserver(folder, file))
        model = LiteRt().load(str(file), 1)
        (info,) = model.inputs
        array = np.random.default_rng(1).integers(-128, 127, info.shape).astype(info.dtype)
        calls: dict[str, Call] = {
            LOOP: lambda: model.invoke([array]),
            **_fleet_calls(stack, device, info.name, array),
            **_triton_calls(stack, device, mlserver, info.name, array),
        }
        rows = [{"model": what, **row} for row in _compare(_take_turns(calls))]
        return rows + [_ask_together(device, info.name, array, count) for count in CONNECTIONS]


def _fleet_calls(stack: ExitStack, device: Device, name: str, array: Array) -> dict[str, Call]:
    def ask(address: str, *, binary: bool = True) -> Call:
        client = stack.enter_context(InferenceClient(address, "bench", binary=binary))
        return lambda: client.infer({name: array})

    return {
        "Fleet, HTTP, binary": ask(device.http),
        "Fleet, Unix socket, binary": ask(device.unix),
        "Fleet, HTTP, JSON": ask(device.http, binary=False),
    }


def _triton_calls(
    stack: ExitStack, device: Device, mlserver: str | None, name: str, array: Array
) -> dict[str, Call]:
    """The same client for both servers; MLServer has no binary tensors over HTTP."""
    datatype = {"int8": "INT8", "float32": "FP32"}[array.dtype.name]

    def ask(address: str, array: Array, datatype: str, *, binary: bool) -> Call:
        client = stack.enter_context(tritonclient.http.InferenceServerClient(address))
        (output,) = (one["name"] for one in InferenceClient(device.http).metadata()["outputs"])

        def call() -> object:
            tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array, binary_data=binary)
            wanted = tritonclient.http.InferRequestedOutput(output, binary_data=binary)
            return client.infer("bench", [tensor], outputs=[wanted]).as_numpy(output)

        return call

    fleet = device.http.removeprefix("http://")
    calls = {
        "Fleet, HTTP, binary, tritonclient": ask(fleet, array, datatype, binary=True),
        "Fleet, HTTP, JSON, tritonclient": ask(fleet, array, datatype, binary=False),
    }
    if mlserver:
        packed = np.array([base64.b64encode(array.tobytes())], np.object_)
        calls[PEER_BASE64] = ask(mlserver, packed, "BYTES", binary=False)
        calls[PEER_JSON] = ask(mlserver, array, datatype, binary=False)
    return calls


def _take_turns(calls: dict[str, Call]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            count = JSON_CALLS if "JSON" in name else CALLS
            taken = time_calls(call, WARM_UP if not turn else count)
            if turn:
                times[name] += taken
    return times


def _compare(times: dict[str, list[float]]) -> list[dict[str, object]]:
    p50 = {name: rank(taken, 0.5) for name, taken in times.items()}
    loop = p50[LOOP]
    rows: list[dict[str, object]] = []
    for name, taken in times.items():
        row: dict[str, object] = {
            "case": name,
            "p50_us": round(p50[name]),
            "p99_us": round(rank(taken, 0.99)),
            "over_the_loop_us": round(p50[name] - loop),
        }
        for peer in (PEER_JSON, PEER_BASE64):
            if peer in p50 and name.startswith("Fleet"):
                row[f"below_{peer}"] = f"{p50[peer] / p50[name]:.1f}x"
        rows.append(row)
    return rows


def _ask_together(device: Device, name: str, array: Array, connections: int) -> dict[str, object]:
    """Ask over several connections at once, each from a process of its own, as fast as answers come."""
    with InferenceClient(device.http, "bench") as client:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(connections, mp_context=context) as pool:

            def ask(count: int) -> list[list[float]]:
                same = [(device.http, name, array, count)] * connections
                return list(pool.map(_ask_many, *zip(*same, strict=True)))

            ask(5)
            before = client.statistics()["inference_stats"]
            begin_s = time.perf_counter()
            many = ask(TOGETHER // connections)
            took_s = time.perf_counter() - begin_s
        after = client.statistics()["inference_stats"]
    times = [one for taken in many for one in taken]
    asked = after["success"]["count"] - before["success"]["count"]
    parts = {
        f"{part}_us": round((after[part]["ns"] - before[part]["ns"]) / asked / 1000)
        for part in ("queue", "compute_infer")
    }
    return {
        "case": f"Fleet, HTTP, binary, {connections} connections",
        "p50_us": round(rank(times, 0.5)),
        "p99_us": round(rank(times, 0.99)),
        "per_s": round(len(times) / took_s),
        **{f"mean_{name}": value for name, value in parts.items()},
    }


def _ask_many(address: str, name: str, array: Array, count: int) -> list[float]:
    with InferenceClient(address, "bench") as client:
        return time_calls(lambda: client.infer({name: array}), count)
