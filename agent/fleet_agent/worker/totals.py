"""What was served since the worker's start, as Triton's statistics extension counts it."""

import threading
from dataclasses import dataclass
from typing import Any


@dataclass
class Duration:
    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def describe(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(frozen=True)
class Served:
    """One request that was answered: its samples, how often the model ran for it, and where its time went.
    ``total_ns`` is all of it, from the last byte of the request to the answer."""

    samples: int
    executions: int
    total_ns: int
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


class Totals:
    """Exact counts from many threads. A request counts once, as success or as failure; a failure is a
    request that reached the model's address and got no answer of the model, for whatever reason."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = self._inferences = self._executions = 0
        self._success, self._fail, self._queue = Duration(), Duration(), Duration()
        self._input, self._infer, self._output = Duration(), Duration(), Duration()

    def add(self, served: Served, now_ms: int) -> None:
        with self._lock:
            self._last_ms = now_ms
            self._inferences += served.samples
            self._executions += served.executions
            self._success.add(served.total_ns)
            self._queue.add(served.queue_ns)
            self._input.add(served.input_ns)
            self._infer.add(served.infer_ns)
            self._output.add(served.output_ns)

    def add_failure(self, total_ns: int, now_ms: int) -> None:
        with self._lock:
            self._last_ms = now_ms
            self._fail.add(total_ns)

    def describe(self) -> dict[str, Any]:
        """Return the part of Triton's ``$model_stat`` that is counted. The model runs one sample at a
        time, so there is one batch size."""
        with self._lock:
            compute = {
                "compute_input": self._input.describe(),
                "compute_infer": self._infer.describe(),
                "compute_output": self._output.describe(),
            }
            batch = {name: {**part, "count": self._executions} for name, part in compute.items()}
            return {
                "last_inference": self._last_ms,
                "inference_count": self._inferences,
                "execution_count": self._executions,
                "inference_stats": {
                    "success": self._success.describe(),
                    "fail": self._fail.describe(),
                    "queue": self._queue.describe(),
                    **compute,
                    "cache_hit": Duration().describe(),
                    "cache_miss": Duration().describe(),
                },
                "batch_stats": [{"batch_size": 1, **batch}] if self._executions else [],
            }
