"""A loaded, proven model: one inference at a time, counted."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, Model, Runtime
from fleet_agent.worker.classes import find_best, name_class
from fleet_agent.worker.datatypes import check_datatypes
from fleet_agent.worker.golden import NOT_A_NUMBER, has_passed, run_golden
from fleet_agent.worker.protocol import SelfTest
from fleet_agent.worker.slot import Slot
from fleet_agent.worker.statistics import Statistics
from fleet_agent.worker.tensors import check_contract
from fleet_agent.worker.totals import Served


@dataclass(frozen=True)
class Inference:
    """What one run gave, how long it waited for the model, and how long the model took."""

    outputs: list[Array]
    queue_ns: int
    infer_ns: int


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
        check_datatypes((*self.model.inputs, *self.model.outputs))
        self._lock = threading.Lock()

    def prove(self) -> SelfTest:
        """Run the golden vectors (which also warm up); raise `SelfTestFailed`."""
        test = run_golden(self.model, self.slot.manifest.contract.golden, self.slot.golden)
        if not has_passed(test):
            raise SelfTestFailed(test)
        return test

    def infer(self, inputs: Sequence[Array], label: str | None = None) -> list[Array]:
        """Answer one sample of the agent's own source, and count it as a request. Raises `WorkerError`."""
        begin_ns = time.perf_counter_ns()
        totals = self.statistics.totals
        try:
            run = self.run(inputs, label)
        except WorkerError:
            totals.add_failure(time.perf_counter_ns() - begin_ns, int(time.time() * 1000))
            raise
        served = Served(
            samples=1,
            executions=1,
            total_ns=time.perf_counter_ns() - begin_ns,
            queue_ns=run.queue_ns,
            input_ns=0,
            infer_ns=run.infer_ns,
            output_ns=0,
        )
        totals.add(served, int(time.time() * 1000))
        return run.outputs

    def run(self, inputs: Sequence[Array], label: str | None = None) -> Inference:
        """Run the model once, on arrays of its own shapes, and count it in the window. Raises `WorkerError`,
        counted as an error."""
        asked_ns = time.perf_counter_ns()
        with self._lock:
            begin_ns = time.perf_counter_ns()
            try:
                outputs = self.model.invoke(inputs)
            except (WorkerError, ValueError) as exc:
                self.statistics.add_error()
                raise WorkerError(f"inference failed: {exc}", code="worker.invoke") from exc
        end_ns = time.perf_counter_ns()
        self.statistics.add((end_ns - asked_ns) / 1000, name=self._predicted(outputs), label=label)
        return Inference(outputs, begin_ns - asked_ns, end_ns - begin_ns)

    def _predicted(self, outputs: Sequence[Array]) -> str | None:
        labels = self.slot.labels
        best = find_best(outputs, self.model.outputs, labels)
        return None if best is None else name_class(best, labels)
