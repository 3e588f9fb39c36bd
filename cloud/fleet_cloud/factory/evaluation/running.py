"""All outputs of a file, and the time of one inference beside other files."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.results import LITERT, Latency
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lite import Kernels, LiteModel
from fleet_cloud.factory.peers import Peer, TimedPeer

Array = NDArray[Any]
Inputs = Sequence[Array]
"""Of one inference: an array for each input of the model, in its own shape and type."""

TIMED_RUNS: Final = 200
BLOCK: Final = 5
"""Inferences of one file in a row; the first of them finds the caches as another file left them, and is not
counted."""
TIMED_FOR_S: Final = 10.0
"""Of all files together; each gets at least one block more than it needs to warm up."""


def run_outputs(content: bytes, real: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the real-valued first output of each sample, flat: (samples, outputs). ``real`` has the samples
    along its first axis, without a batch. Raises as `LiteModel` does.

    Sample by sample, as devices do: a file's inner shapes are fixed to a batch of one, and 10,000 calls take
    0.3 s besides what the model computes.
    """
    model = LiteModel(content)
    given = model.quantize(real)
    outputs = [model.run([given[i : i + 1]])[0].reshape(-1) for i in range(len(given))]
    return model.dequantize(np.stack(outputs))


def time_files(
    files: Mapping[str, bytes],
    real: NDArray[np.float32],
    *,
    threads: int = 1,
    runs: int = TIMED_RUNS,
    limit_s: float = TIMED_FOR_S,
) -> dict[str, Latency]:
    """Return how long one inference takes, by the name of the file; ``real`` are samples to take turns with.

    The files take turns in short blocks, each round in another order, so that whatever else the machine does
    hits all alike.
    """
    models = {name: LiteModel(content, Kernels(threads)) for name, content in files.items()}
    inputs = {name: _take_inputs(model, real[:BLOCK]) for name, model in models.items()}
    times = _time_in_turns(models, inputs, runs, limit_s)
    return {name: summarise(LITERT, found, threads) for name, found in times.items()}


def time_file(content: bytes, inputs: Sequence[Inputs], *, limit_s: float = TIMED_FOR_S) -> Latency:
    """Return how long one inference takes on one thread, of a file that is beside no other."""
    times = _time_in_turns({"": LiteModel(content)}, {"": inputs[:BLOCK]}, TIMED_RUNS, limit_s)
    return summarise(LITERT, times[""], 1)


def make_inputs(content: bytes, real: NDArray[np.float32]) -> list[Inputs]:
    """Return real samples as a file takes them, one after the other."""
    return _take_inputs(LiteModel(content), real)


def time_on_peers(
    content: bytes, inputs: Sequence[Inputs], peers: Sequence[Peer], *, runs: int = TIMED_RUNS
) -> tuple[Latency, ...]:
    """Return how long one inference takes with other runtimes at hand, on one thread, each in a process of
    its own: not in turns with other files. Those that may not or cannot run the file are left out."""
    if not peers:
        return ()
    allowed, found = inspect_file(content).runtimes, []
    samples = [inputs[:BLOCK][number % len(inputs[:BLOCK])] for number in range(runs + BLOCK)]
    for peer in peers:
        if peer.name in allowed and isinstance(peer, TimedPeer):
            with suppress(Invalid):
                found.append(summarise(peer.name, peer.time(content, samples)[BLOCK:].tolist(), 1))
    return tuple(found)


def _take_inputs(model: LiteModel, real: NDArray[np.float32]) -> list[Inputs]:
    given = model.quantize(real)
    return [[given[i : i + 1]] for i in range(len(given))]


def _time_in_turns(
    models: Mapping[str, LiteModel], inputs: Mapping[str, Sequence[Inputs]], runs: int, limit_s: float
) -> dict[str, list[float]]:
    """Return the seconds of single inferences, by the name of the model."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for name, model in models.items():
        _time_block(model, inputs[name])
    random, names = np.random.default_rng(0), list(models)
    end = time.perf_counter() + limit_s
    for _ in range(-(-runs // (BLOCK - 1))):
        for index in random.permutation(len(names)):
            name = names[index]
            times[name] += _time_block(models[name], inputs[name])[1:]
        if time.perf_counter() > end:
            break
    return times


def _time_block(model: LiteModel, inputs: Sequence[Inputs]) -> list[float]:
    """Return the seconds of `BLOCK` inferences in a row."""
    found = []
    for number in range(BLOCK):
        sample = inputs[number % len(inputs)]
        begin = time.perf_counter()
        model.run(sample)
        found.append(time.perf_counter() - begin)
    return found


def summarise(runtime: str, times: Sequence[float], threads: int) -> Latency:
    """Return the percentiles of ``times``, in seconds."""
    p10, p50, p90 = (float(value) for value in np.percentile(times, [10, 50, 90]) * 1e6)
    return Latency(runtime=runtime, threads=threads, runs=len(times), p50_us=p50, p10_us=p10, p90_us=p90)
