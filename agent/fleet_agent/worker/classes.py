"""The class that a model's outputs speak of."""

from collections.abc import Sequence

from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.tensors import dequantize


def find_best(outputs: Sequence[Array], infos: Sequence[TensorInfo], labels: Sequence[str]) -> int | None:
    """Return the number of the best class; none unless the only output is one row of scores.

    A single score, of a model with two labels, is the probability of the second. Scales are positive: of
    several, the largest quantized score is the largest real one.
    """
    if len(outputs) != 1 or outputs[0].ndim != 2 or outputs[0].shape[0] != 1:
        return None
    row = outputs[0][0]
    if len(row) >= 2:
        return int(row.argmax())
    if len(row) == 1 and len(labels) == 2:
        return int(dequantize(row, infos[0])[0] > 0.5)
    return None


def name_class(number: int, labels: Sequence[str]) -> str:
    return labels[number] if number < len(labels) else str(number)


def find_class(
    outputs: Sequence[Array], infos: Sequence[TensorInfo], labels: Sequence[str]
) -> dict[str, str | float]:
    """Return label and score (the output's real unit) of the best class, as an answer has them; nothing where
    there is none."""
    if (best := find_best(outputs, infos, labels)) is None:
        return {}
    scores = [float(score) for score in dequantize(outputs[0][0], infos[0])]
    if len(scores) == 1:
        scores = [1 - scores[0], scores[0]]
    return {"label": name_class(best, labels), "score": scores[best]}
