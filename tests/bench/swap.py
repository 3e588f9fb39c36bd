"""What a swap of the model costs those who ask meanwhile: requests failed, and the slowest of them.

Open loop: each client asks at its own steady times, whatever the answers do, and a request's time counts
from when it was due. The workers and the code that swaps them are the agent's own.
"""

import tempfile
import threading
import time
from collections.abc import Callable
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
class Client:
    """One application. ``ask`` returns the version that answered, or raises."""

    ask: Ask
    offset_s: float
    failures: list[str] = field(default_factory=list)
    due_and_took: list[tuple[float, float]] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> None:
        due_s = time.monotonic() + self.offset_s
        while not stop.wait(max(0.0, due_s - time.monotonic())):
            try:
                self.versions.add(self.ask())
            except Exception as exc:  # noqa: BLE001 - whatever it is, the application did not get its answer
                self.failures.append(f"{type(exc).__name__}: {exc}")
            self.due_and_took.append((due_s, time.monotonic() - due_s))
            due_s += EVERY_S


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
        makers = [ask_with_fleet, ask_with_fleet, ask_with_triton, ask_with_triton]
        clients = [
            Client(make(device, array), number * EVERY_S / len(makers)) for number, make in enumerate(makers)
        ]
        begun_s, switched_s = _swap_under_load(device, clients)
    kinds = {"all": clients, "Fleet's client": clients[:2], "tritonclient": clients[2:]}
    return [{"model": what, **_judge(kind, chosen, begun_s, switched_s)} for kind, chosen in kinds.items()]


def ask_with_fleet(device: Device, array: Array) -> Ask:
    client = InferenceClient(device.http, "bench")
    (name,) = (one["name"] for one in client.metadata()["inputs"])
    return lambda: client.infer({name: array}).version


def ask_with_triton(device: Device, array: Array) -> Ask:
    """Triton's client sends a POST once, whatever becomes of its connection. It belongs to one thread."""
    address = device.http.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(address) as one:
        name = one.get_model_metadata("bench")["inputs"][0]["name"]
    mine = threading.local()
    datatype = {"int8": "INT8", "float32": "FP32"}[array.dtype.name]

    def ask() -> str:
        if not hasattr(mine, "client"):
            mine.client = tritonclient.http.InferenceServerClient(address)
        tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return str(mine.client.infer("bench", [tensor]).get_response()["model_version"])

    return ask


def _swap_under_load(device: Device, clients: list[Client]) -> tuple[list[float], list[float]]:
    """Return when each swap began (the new worker starts) and when the new worker was told to serve."""
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    begun_s, switched_s = [], []
    for number in range(1, SWAPS + 1):
        time.sleep(STEADY_S)
        begun_s.append(time.monotonic())
        switched_s.append(device.serve(f"{number}.0.0"))
    time.sleep(STEADY_S)
    stop.set()
    for thread in threads:
        thread.join()
    return begun_s, switched_s


def _judge(
    kind: str, clients: list[Client], begun_s: list[float], switched_s: list[float]
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
