"""Golden vectors: recorded inputs and outputs that prove a runtime on a device.

Each candidate has its own spread: the largest difference over the ways to compute that are at
hand. Those on which the ways agree best are chosen, for the tolerance is that of the worst sample
that is kept: the largest spread with a margin; at least 4 steps for an integer output. The two best
classes of a sample are at least twice the tolerance apart, so that no honest runtime flips a class.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.lite import Kernels, LiteModel
from fleet_cloud.factory.peers import Peer
from fleet_shared.manifest import Golden

Array = NDArray[Any]
Outputs = Sequence[NDArray[np.float32]]
"""The real-valued outputs of one sample."""

SAMPLES: Final = 16
STEPS_MIN: Final = 4
FLOAT_TOLERANCE_MIN: Final = 1e-4
FLOAT_TOLERANCE_SHARE: Final = 1e-5
"""Share of the largest output: about 80 units in the last place of a float32."""
MARGIN: Final = 2.0
SHARE_MAX: Final = 0.05
"""Share of the output's range above which a tolerance hardly proves anything."""
TOO_FAR: Final = "its answers are too far from those of LiteRT"
"""Why a peer is left out that has answers."""

WAYS: Final = (Kernels(1), Kernels(2), Kernels(1, reference=True))


@dataclass(frozen=True)
class Vectors:
    """The rule, the ``.npz``, and the tolerance as a share of the range of the outputs."""

    rule: Golden
    content: bytes
    share: float
    left_out: dict[str, str] = field(default_factory=dict)
    """Runtimes that compute the model too differently, and why."""

    @property
    def weak(self) -> bool:
        return not self.share <= SHARE_MAX


@dataclass(frozen=True)
class Measured:
    """Candidates as they came out: recorded outputs, their real values, and for each candidate the
    tolerance that it alone would need."""

    recorded: list[list[Array]]
    real: list[Outputs]
    needs: list[float]
    range: float
    to_real: Callable[[Sequence[Array]], Outputs]


def make_golden(content: bytes, candidates: Sequence[Sequence[Array]], peers: Sequence[Peer] = ()) -> Vectors:
    """Return the vectors for a file. ``candidates``: samples as lists of inputs, in the tensors' own
    shapes and types. ``peers`` are asked as well. Raises `Invalid` (``model.golden``) when they prove
    nothing."""
    return ask_peers(content, candidates, measure(content, candidates), peers, _choose)


Choose = Callable[[Sequence[Sequence[Array]], Measured], Vectors]


def ask_peers(
    content: bytes,
    candidates: Sequence[Sequence[Array]],
    measured: Measured,
    peers: Sequence[Peer],
    choose: Choose,
) -> Vectors:
    """Return the vectors that ``choose`` makes of what was measured here and of what the peers answer.

    A peer is left out that has no answer, or with which the vectors would prove little: they would
    be weak for everybody for the sake of one.
    """
    vectors, left_out = choose(candidates, measured), {}
    for peer in peers:
        try:
            widened = _widen(measured, [measured.to_real(row) for row in peer.answer(content, candidates)])
        except Invalid as exc:
            left_out[peer.name] = exc.message
            continue
        tried = choose(candidates, widened)
        if (tried.weak and not vectors.weak) or (vectors.rule.same_class and not tried.rule.same_class):
            left_out[peer.name] = TOO_FAR
        else:
            measured, vectors = widened, tried
    return replace(vectors, left_out=left_out)


def _widen(measured: Measured, answers: Sequence[Outputs]) -> Measured:
    """Return what each candidate needs when these answers are right as well."""
    needs = [
        max(need, MARGIN * find_difference(answer, wanted))
        for need, answer, wanted in zip(measured.needs, answers, measured.real, strict=True)
    ]
    return replace(measured, needs=needs)


def _choose(candidates: Sequence[Sequence[Array]], measured: Measured) -> Vectors:
    chosen, same_class = choose_samples(measured.real, measured.needs)
    tolerance = max(measured.needs[i] for i in chosen)
    packed = pack_golden([candidates[i] for i in chosen], [measured.recorded[i] for i in chosen])
    rule = Golden(samples=len(chosen), tolerance=tolerance, same_class=same_class)
    return Vectors(rule, packed, get_share(tolerance, measured.range))


def measure(content: bytes, candidates: Sequence[Sequence[Array]]) -> Measured:
    """Run the candidates in all ways; raise `Invalid` (``model.golden``) for outputs without meaning."""
    if not candidates:
        raise Invalid(
            "there are no samples for golden vectors", hint="give at least one", code="model.golden"
        )
    first, *others = (LiteModel(content, way) for way in WAYS)
    recorded = [first.run(sample) for sample in candidates]
    real: list[Outputs] = [_dequantize(first, outputs) for outputs in recorded]
    _check_finite(real)
    spreads = [
        max(find_difference(_dequantize(other, other.run(sample)), wanted) for other in others)
        for sample, wanted in zip(candidates, real, strict=True)
    ]
    floor = _floor(first, real)
    needs = [max(floor, MARGIN * spread) for spread in spreads]
    return Measured(recorded, real, needs, _range(first, real), partial(_dequantize, first))


def choose_samples(outputs: Sequence[Outputs], needs: Sequence[float]) -> tuple[list[int], bool]:
    """Return which samples to keep, and whether their classes may be compared.

    ``needs``: the tolerance that each sample alone asks for. The smallest tolerance wins under which
    enough samples are clear. Among these the classes take turns, so that few samples still see many
    of them, each with its least demanding samples first. With too few clear samples the least
    demanding are taken, and only the tolerance is tested.
    """
    wanted = min(SAMPLES, len(outputs))
    margins = [_margin(found) for found in outputs]
    best: list[int] = []
    for tolerance in sorted(set(needs)):
        clear = [i for i, need in enumerate(needs) if need <= tolerance and margins[i] >= 2 * tolerance]
        if len(clear) > len(best):
            best = clear
        if len(best) >= wanted:
            break
    same_class = len(best) >= max(1, wanted // 2)
    if not same_class:
        enough = sorted(needs)[wanted - 1]
        best = [i for i, need in enumerate(needs) if need <= enough]
    return _take_turns(best, outputs, needs), same_class


def _take_turns(pool: Sequence[int], outputs: Sequence[Outputs], needs: Sequence[float]) -> list[int]:
    by_class: defaultdict[int, list[int]] = defaultdict(list)
    for i in sorted(pool, key=lambda i: needs[i]):
        by_class[int(outputs[i][0].argmax())].append(i)
    turns = chain.from_iterable(zip_longest(*(by_class[number] for number in sorted(by_class))))
    return [i for i in turns if i is not None][:SAMPLES]


def pack_golden(inputs: Sequence[Sequence[Array]], outputs: Sequence[Sequence[Array]]) -> bytes:
    """Return the ``.npz``: ``input_0`` .. and ``output_0`` .., samples first, without a batch of one."""
    arrays = {f"input_{i}": _stack(column) for i, column in enumerate(zip(*inputs, strict=True))}
    arrays |= {f"output_{i}": _stack(column) for i, column in enumerate(zip(*outputs, strict=True))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def get_share(tolerance: float, size: float) -> float:
    """Return a tolerance as a share of the range of the outputs; infinite where there is none."""
    return tolerance / size if size > 0 else float("inf")


def get_item_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a tensor's shape without a leading batch of one."""
    whole = tuple(int(size) for size in shape)
    return whole[1:] if whole[:1] == (1,) else whole


def find_difference(got: Outputs, wanted: Outputs) -> float:
    """Return the largest absolute difference over all outputs of a sample; NaN becomes infinity."""
    worst = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(got, wanted, strict=True))
    return worst if np.isfinite(worst) else float("inf")


def _stack(column: Sequence[Array]) -> Array:
    return np.stack([array.reshape(get_item_shape(array.shape)) for array in column])


def _dequantize(model: LiteModel, outputs: Sequence[Array]) -> list[NDArray[np.float32]]:
    return [model.dequantize(output, index) for index, output in enumerate(outputs)]


def _check_finite(real: Sequence[Outputs]) -> None:
    for number, outputs in enumerate(real):
        if not all(np.isfinite(output).all() for output in outputs):
            raise Invalid(
                f"the outputs for sample {number} are not finite: nothing could be compared on a device",
                hint="give samples that the model was made for",
                code="model.golden",
            )


def _floor(model: LiteModel, real: Sequence[Outputs]) -> float:
    """Return what every candidate needs at least: other processors round and sum in another order,
    which the ways at hand here cannot show. For floats it grows with the outputs."""
    steps = max(float(detail["quantization"][0]) for detail in model.outputs)
    largest = max(float(np.max(np.abs(output), initial=0.0)) for outputs in real for output in outputs)
    return max(STEPS_MIN * steps, FLOAT_TOLERANCE_MIN, FLOAT_TOLERANCE_SHARE * largest)


def _range(model: LiteModel, real: Sequence[Outputs]) -> float:
    """Return the smallest range of an output: what its type can say, or for floats what was seen."""
    sizes = []
    for index, detail in enumerate(model.outputs):
        scale = float(detail["quantization"][0])
        if scale:
            limits = np.iinfo(detail["dtype"])
            sizes.append(scale * (int(limits.max) - int(limits.min)))
        else:
            seen = [outputs[index] for outputs in real]
            low = min(float(output.min(initial=np.inf)) for output in seen)
            sizes.append(max(float(output.max(initial=-np.inf)) for output in seen) - low)
    return min(sizes)


def _margin(outputs: Outputs) -> float:
    """Return how far the two best classes of the smallest-margin output are apart."""
    margins = []
    for output in outputs:
        real = np.sort(output.ravel())
        margins.append(float(real[-1] - real[-2]) if real.size > 1 else 0.0)
    return min(margins)
