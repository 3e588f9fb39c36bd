"""A loaded, proven model: one inference at a time, counted."""

import threading
import time
from collections.abc import Sequence

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, Model, Runtime
from fleet_agent.worker.golden import NOT_A_NUMBER, has_passed, run_golden
from fleet_agent.worker.protocol import SelfTest
from fleet_agent.worker.slot import Slot
from fleet_agent.worker.statistics import Statistics
from fleet_agent.worker.tensors import check_contract, dequantize


class SelfTestFailed(WorkerError):
    """The golden vectors did not come out; ``test`` is the evidence."""

    code = "worker.golden.failed"

    def __init__(self, test: SelfTest) -> None:
        differ = f"differ by {test.max_difference:.4g}, allowed {test.tolerance:.4g}"
        if test.max_difference >= NOT_A_NUMBER:
            differ = "give outputs that are not numbers"
        super().__init__(
            f"golden vectors {differ}; {test.class_flips} of {test.samples} samples change class",
            hint="this runtime computes the model differently: build a variant for it",
        )
        self.test = test


class Engine:
    """Answers inference from any thread; the interpreter itself is used by one at a time."""

    def __init__(self, slot: Slot, runtime: Runtime, threads: int, statistics: Statistics) -> None:
        self.slot, self.runtime, self.statistics = slot, runtime, statistics
        begin = time.perf_counter()
        self.model: Model = runtime.load(str(slot.model_file), threads)
        self.load_ms = (time.perf_counter() - begin) * 1000
        contract = slot.manifest.contract
        check_contract(self.model.inputs, contract.inputs, "input")
        check_contract(self.model.outputs, contract.outputs, "output")
        self._lock = threading.Lock()

    def prove(self) -> SelfTest:
        """Run the golden vectors (which also warm up); raise `SelfTestFailed`."""
        test = run_golden(self.model, self.slot.manifest.contract.golden, self.slot.golden_file)
        if not has_passed(test):
            raise SelfTestFailed(test)
        return test

    def infer(self, inputs: Sequence[Array], label: str | None = None) -> list[Array]:
        """Run one batch of one, and count it. Raises `WorkerError`, counted as an error."""
        begin = time.perf_counter()
        try:
            with self._lock:
                outputs = self.model.invoke(inputs)
        except (WorkerError, ValueError) as exc:
            self.statistics.add_error()
            raise WorkerError(f"inference failed: {exc}", code="worker.invoke") from exc
        latency_us = (time.perf_counter() - begin) * 1e6
        self.statistics.add(latency_us, name=self._predicted(outputs), label=label)
        return outputs

    def _predicted(self, outputs: Sequence[Array]) -> str | None:
        """Return the predicted class, for a model with one row of scores as its only output."""
        if len(outputs) != 1 or outputs[0].ndim != 2 or outputs[0].shape[1] < 2:
            return None
        best = int(dequantize(outputs[0][0], self.model.outputs[0]).argmax())
        labels = self.slot.labels
        return labels[best] if best < len(labels) else str(best)
