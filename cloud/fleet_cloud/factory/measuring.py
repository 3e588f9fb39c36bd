"""What gates judge of a file, on the validation split."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.evaluation.judging import Questions
from fleet_cloud.factory.evaluation.running import run_outputs, time_files
from fleet_cloud.factory.evaluation.scores import compare_outputs, take_classes
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Lab

TIMED_SAMPLES: Final = 8
TIMED_FOR_S: Final = 2.0


RANDOM_SAMPLES: Final = 256
RANDOM: Final = "random inputs"


def make_questions(lab: Lab) -> Questions:
    """Return the validation split; where there is none, random inputs, on which a file can at least be
    compared with the float one."""
    if len(lab.validation):
        real, y, split = lab.real(lab.validation.x), lab.validation.y, "validation"
    else:
        real, y, split = lab.real(_draw_random(lab)), None, RANDOM
    return Questions(real=real, y=y, split=split, task=lab.task, labels=lab.labels)


def _draw_random(lab: Lab) -> NDArray[Any]:
    """Return pixels where the preprocessing names a colour, else numbers from 0 to 1."""
    random = np.random.default_rng(lab.seed)
    shape = (RANDOM_SAMPLES, *lab.validation.x.shape[1:])
    if lab.preprocessing.colour is None:
        return random.random(shape, dtype=np.float32)
    return random.integers(0, 256, shape, dtype=np.uint8)


@dataclass(frozen=True)
class Measurer:
    """``reference``: the float file, beside which the others are judged."""

    reference: bytes
    questions: Questions

    def measure(self, content: bytes) -> Measured:
        asked = self.questions
        outputs, classes = run_outputs(content, asked.real), asked.task == "classification"
        against = compare_outputs(outputs, self._reference_outputs, asked.y, classes=classes)
        right = None if asked.y is None or not classes else take_classes(outputs) == asked.y
        latency = time_files({"": content}, asked.real[:TIMED_SAMPLES], limit_s=TIMED_FOR_S)[""]
        return Measured(
            size_bytes=len(content),
            accuracy=None if right is None else float(right.mean()),
            accuracy_drop=against.drop.value if against.drop and classes else None,
            agreement=against.agreement.value if against.agreement else None,
            latency_us=latency.p50_us,
            memory_bytes=inspect_file(content).memory_bytes,
        )

    @cached_property
    def _reference_outputs(self) -> NDArray[np.float32]:
        return run_outputs(self.reference, self.questions.real)
