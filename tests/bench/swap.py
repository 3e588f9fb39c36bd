"""What a swap of the model costs those who ask meanwhile: requests failed, and the slowest of them.

Open loop: each client asks at its own steady times, whatever the answers do, and a request's time counts
from when it was due. The workers and the code that swaps them are the agent's own.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import tritonclient.http
from numpy.typing import NDArray

from fleet_agent.client import InferenceClient
from tests.bench.data import find_person_model, pack
from tests.bench.timing import rank
from tests.bench.workers import Device, running_device
from tests.kit.engine import write_slot

SWAPS: Final = 10
STEADY_S: Final = 4.0
"""Between two swaps."""
CLIENTS: Final = 4
EVERY_S: Final = 0.04
"""Each client: a hundred requests a second from all."""
AROUND_S: Final = 0.5
"""The second of the swap: so long before and after the new worker is told to serve."""

Array = NDArray[Any]


Ask = Callable[[], str]


@dataclass
class Asked:
    """What one application saw: when each request was due, how long its answer took from then, which
    versions answered, and what failed."""

    failures: list[str] = field(default_factory=list)
    due_and_took: list[tuple[float, float]] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)


def measure_swap() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name, running_device(Path(name)) as device:
        folder = Path(name)
        file, what = find_person_model(folder)
        package = pack(file)
        for number in range(SWAPS + 1):
            version = f"{number}.0.0"
            device.slots[version] = write_slot(folder / version, package, model="bench", version=version)
        tensor = package.contract.inputs[0]
        array = np.zeros([1, *tensor.shape[1:]], tensor.dtype)
        device.serve("0.0.0")
        asked, begun_s, switched_s = _swap_under_load(device, array)
    kinds = {"all": asked, "Fleet's client": asked[:2], "tritonclient": asked[2:]}
    return [{"model": what, **_judge(kind, chosen, begun_s, switched_s)} for kind, chosen in kinds.items()]


# -- applications, each in a process of its own


@contextmanager
def fleet_application(address: str, name: str, array: Array) -> Iterator[Ask]:
    with InferenceClient(address, "bench") as client:
        yield lambda: client.infer({name: array}).version


@contextmanager
def triton_application(address: str, name: str, array: Array) -> Iterator[Ask]:
    """Triton's client sends a POST once, whatever becomes of its connection."""
    datatype = {"int8": "INT8", "float32": "FP32"}[array.dtype.name]
    with tritonclient.http.InferenceServerClient(address.removeprefix("http://")) as client:

        def ask() -> str:
            tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            return str(client.infer("bench", [tensor]).get_response()["model_version"])

        yield ask


APPLICATIONS: Final = (fleet_application, fleet_application, triton_application, triton_application)


def run_application(number: int, address: str, array: Array, stop: Any, answer: Any) -> None:
    """Ask until ``stop``, then send what was seen over ``answer``. Its first answer is sent at once."""
    asked = Asked()
    with InferenceClient(address, "bench") as client:
        (name,) = (one["name"] for one in client.metadata()["inputs"])
    with APPLICATIONS[number](address, name, array) as ask:
        ask()
        answer.send("ready")
        due_s = time.monotonic() + number * EVERY_S / len(APPLICATIONS)
        while not stop.wait(max(0.0, due_s - time.monotonic())):
            try:
                asked.versions.add(ask())
            except Exception as exc:  # noqa: BLE001 - whatever it is, the application did not get its answer
                asked.failures.append(f"{type(exc).__name__}: {exc}")
            asked.due_and_took.append((due_s, time.monotonic() - due_s))
            due_s += EVERY_S
    answer.send(asked)


def _swap_under_load(device: Device, array: Array) -> tuple[list[Asked], list[float], list[float]]:
    """Return what was seen, when each swap began (the new worker starts) and when the new worker was told
    to serve."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    lines = [context.Pipe() for _ in APPLICATIONS]
    processes = [
        context.Process(target=run_application, args=(number, device.http, array, stop, theirs), daemon=True)
        for number, (_, theirs) in enumerate(lines)
    ]
    for process, (_, theirs) in zip(processes, lines, strict=True):
        process.start()
        theirs.close()  # so that the end of the process ends the line
    for ours, _ in lines:
        assert ours.recv() == "ready"
    begun_s, switched_s = [], []
    for number in range(1, SWAPS + 1):
        time.sleep(STEADY_S)
        begun_s.append(time.monotonic())
        switched_s.append(device.serve(f"{number}.0.0"))
    time.sleep(STEADY_S)
    stop.set()
    asked = [ours.recv() for ours, _ in lines]
    for process in processes:
        process.join()
    return asked, begun_s, switched_s


def _judge(
    kind: str, clients: list[Asked], begun_s: list[float], switched_s: list[float]
) -> dict[str, object]:
    asked = [one for client in clients for one in client.due_and_took]
    around = [(at - AROUND_S, at + AROUND_S) for at in switched_s]
    starts = list(zip(begun_s, (begin for begin, _ in around), strict=True))
    swap = [took for due, took in asked if _is_within(due, around)]
    start = [took for due, took in asked if _is_within(due, starts)]
    steady = [took for due, took in asked if not _is_within(due, around + starts)]
    row: dict[str, object] = {
        "clients": kind,
        "swaps": len(switched_s),
        "versions_seen": len(set().union(*(client.versions for client in clients))),
        "requests": len(asked),
        "failed": sum(len(client.failures) for client in clients),
        "steady_p50_us": round(rank(steady, 0.5) * 1e6),
        "steady_p99_us": round(rank(steady, 0.99) * 1e6),
        "swap_p99_us": round(rank(swap, 0.99) * 1e6),
        "ratio": round(rank(swap, 0.99) / rank(steady, 0.99), 2),
    }
    after = [took for due, took in asked if _is_within(due, [(at, at + 1.0) for at in switched_s])]
    row["second_after_the_switch_p99_us"] = round(rank(after, 0.99) * 1e6)
    if start:
        row["while_the_new_worker_loads_p99_us"] = round(rank(start, 0.99) * 1e6)
    if failures := [failure for client in clients for failure in client.failures]:
        row["first_failure"] = failures[0]
    return row


def _is_within(at_s: float, spans: list[tuple[float, float]]) -> bool:
    return any(begin <= at_s < end for begin, end in spans)
