"""Judge the variants of a build: everything that `results` has a place for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.evaluation.counting import count_file
from fleet_cloud.factory.evaluation.memory import measure_memory
from fleet_cloud.factory.evaluation.results import Against, Evaluation, Latency, Memory, Samples
from fleet_cloud.factory.evaluation.running import (
    TIMED_FOR_S,
    TIMED_RUNS,
    Inputs,
    make_inputs,
    run_outputs,
    time_file,
    time_files,
    time_on_peers,
)
from fleet_cloud.factory.evaluation.scores import (
    compare_outputs,
    score_classes,
    score_errors,
    take_classes,
    write_right,
)
from fleet_cloud.factory.evaluation.sizes import measure_sizes
from fleet_cloud.factory.evaluation.tensors import describe_weights
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.peers import Peer

Array = NDArray[Any]
Task = Literal["classification", "regression"]

TIMED_SAMPLES: Final = 8


@dataclass(frozen=True)
class Candidate:
    """A file to judge. ``parameters`` and ``operations`` are those of its network, where there is one, else
    of the file."""

    name: str
    content: bytes
    parameters: int | None = None
    operations: int | None = None


@dataclass(frozen=True)
class Questions:
    """What files are judged on. ``real``: samples as a model takes them, (n, ...); ``y``: class numbers, or
    targets, or none: unlabelled; ``split``: what the samples are called."""

    real: NDArray[np.float32]
    y: Array | None
    split: str
    task: Task = "classification"
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.real)

    @property
    def samples(self) -> Samples:
        digest = hashlib.sha256(np.ascontiguousarray(self.real).tobytes())
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y).tobytes())
        return Samples(split=self.split, count=len(self), sha256=digest.hexdigest())


def describe_file(name: str, content: bytes) -> Candidate:
    """Return a file of which no network is known, with what can be counted on it."""
    counts = count_file(content)
    return Candidate(name, content, counts.parameters, counts.operations)


def judge(
    candidates: Sequence[Candidate],
    questions: Questions | None,
    reference: bytes | None = None,
    peers: Sequence[Peer] = (),
) -> tuple[Evaluation, ...]:
    """Return the evaluation of each file, in order. ``reference``: the float model's file, which the others
    are compared with; it may be one of the candidates. ``peers``: other runtimes, which are timed as well.
    Without questions (or with none) nothing is known of accuracy and agreement. Raises `Invalid` for a file
    that LiteRT cannot load or run."""
    asked = questions if questions is not None and len(questions) else None
    float_outputs = None if asked is None or reference is None else run_outputs(reference, asked.real)
    timed = _timed_samples(candidates, asked)
    latencies = time_files({one.name: one.content for one in candidates}, timed)
    return tuple(
        _judge_one(
            one,
            asked,
            float_outputs,
            _with_peers(one, latencies[one.name], make_inputs(one.content, timed) if peers else (), peers),
        )
        for one in candidates
    )


def judge_alone(
    candidate: Candidate,
    inputs: Sequence[Inputs],
    questions: Questions | None = None,
    peers: Sequence[Peer] = (),
) -> Evaluation:
    """Return the evaluation of a file that is no variant of another. ``inputs``: what it is timed with; it
    may take several, and of any type. Raises as `judge` does."""
    latencies = _with_peers(candidate, time_file(candidate.content, inputs), inputs, peers)
    return _judge_one(candidate, questions, None, latencies)


def measure_accuracy(content: bytes, questions: Questions) -> float:
    """Return top-1, or minus the mean squared error: more is better, as for `tuning.score`."""
    outputs = run_outputs(content, questions.real)
    if questions.y is None:
        raise ValueError("without labels no accuracy can be measured")
    if questions.task == "regression":
        return -float(np.square(outputs - questions.y.reshape(outputs.shape)).mean())
    return float((take_classes(outputs) == questions.y).mean())


def compare_files(content: bytes, reference: bytes, questions: Questions) -> Against:
    """Return what a file is beside the float model's, for a gate: no latency, no memory."""
    return compare_outputs(
        run_outputs(content, questions.real),
        run_outputs(reference, questions.real),
        questions.y,
        classes=questions.task == "classification",
    )


def _with_peers(
    one: Candidate, latency: Latency, inputs: Sequence[Inputs], peers: Sequence[Peer]
) -> tuple[Latency, ...]:
    """Return the latency with LiteRT and with others, which get about as long."""
    runs = max(1, min(TIMED_RUNS, int(TIMED_FOR_S * 1e6 / latency.p50_us)))
    return (latency, *time_on_peers(one.content, inputs, peers, runs=runs))


def _judge_one(
    one: Candidate,
    questions: Questions | None,
    float_outputs: NDArray[np.float32] | None,
    latencies: tuple[Latency, ...],
) -> Evaluation:
    evaluation = Evaluation(
        variant=one.name,
        samples=None if questions is None else questions.samples,
        size=measure_sizes(one.content),
        memory=Memory(
            estimate_bytes=inspect_file(one.content).memory_bytes, peak_bytes=measure_memory(one.content)
        ),
        weights=describe_weights(one.content),
        latencies=latencies,
        parameters=one.parameters,
        operations=one.operations,
    )
    if questions is None:
        return evaluation
    return _with_scores(evaluation, run_outputs(one.content, questions.real), questions, float_outputs)


def _with_scores(
    evaluation: Evaluation,
    outputs: NDArray[np.float32],
    questions: Questions,
    float_outputs: NDArray[np.float32] | None,
) -> Evaluation:
    classes, y = questions.task == "classification", questions.y
    found: dict[str, Any] = {}
    if y is not None and classes:
        found["classification"] = score_classes(outputs, y, questions.labels)
        found["right"] = write_right(outputs, y)
    elif y is not None:
        found["regression"] = score_errors(outputs, y)
    if float_outputs is not None:
        found["against_float"] = compare_outputs(outputs, float_outputs, y, classes=classes)
    return msgspec.structs.replace(evaluation, **found)


def _timed_samples(candidates: Sequence[Candidate], questions: Questions | None) -> NDArray[np.float32]:
    """Return real samples; without any, random ones of the input's shape."""
    if questions is not None:
        return questions.real[:TIMED_SAMPLES]
    shape = [abs(size) for size in inspect_file(candidates[0].content).inputs[0].shape[1:]]
    return np.random.default_rng(0).random((TIMED_SAMPLES, *shape), dtype=np.float32)
