"""What gates judge of a file, on the validation split."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.evaluation.judging import Questions
from fleet_cloud.factory.evaluation.running import run_outputs, time_files
from fleet_cloud.factory.evaluation.scores import compare_outputs, take_classes
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.inspect import inspect_file

TIMED_SAMPLES: Final = 8
TIMED_FOR_S: Final = 2.0


@dataclass(frozen=True)
class Measurer:
    """``reference``: the float file, beside which the others are judged. ``questions``: none, if there are
    no samples: then only sizes are known."""

    reference: bytes
    questions: Questions | None

    def measure(self, content: bytes) -> Measured:
        memory_bytes = inspect_file(content).memory_bytes
        if self.questions is None:
            return Measured(size_bytes=len(content), memory_bytes=memory_bytes)
        outputs, classes = run_outputs(content, self.questions.real), self.questions.task == "classification"
        against = compare_outputs(outputs, self._reference_outputs, self.questions.y, classes=classes)
        real = self.questions.real[:TIMED_SAMPLES]
        latency = time_files({"": content}, real, limit_s=TIMED_FOR_S)[""]
        return Measured(
            size_bytes=len(content),
            accuracy=self._accuracy(outputs) if classes else None,
            accuracy_drop=against.drop.value if against.drop and classes else None,
            agreement=against.agreement.value if against.agreement else None,
            latency_us=latency.p50_us,
            memory_bytes=memory_bytes,
        )

    def _accuracy(self, outputs: NDArray[np.float32]) -> float | None:
        y = None if self.questions is None else self.questions.y
        return None if y is None else float((take_classes(outputs) == y).mean())

    @cached_property
    def _reference_outputs(self) -> NDArray[np.float32]:
        assert self.questions is not None  # noqa: S101  asked for where there are some
        return run_outputs(self.reference, self.questions.real)
