"""Which layers of student and teacher shall look at the same places."""

from collections.abc import Sequence
from typing import Any

import keras

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.graph import read_calls
from fleet_cloud.factory.recipe.passes import AttentionPair

Stages = dict[tuple[int, int], str]
"""The last layer of each stage, by the height and width of its output."""


def find_pairs(student: Any, teacher: Any, named: Sequence[AttentionPair] = ()) -> tuple[AttentionPair, ...]:
    """Return the pairs that are named, or the ends of the stages that have the same size in both; where no
    size is the same, the last stages. Raises `BuildError` (``build.pairs``)."""
    if named:
        for one in named:
            _check(one.student, student, "the student")
            _check(one.teacher, teacher, "the teacher")
        return tuple(named)
    ours, theirs = find_stages(student), find_stages(teacher)
    if not ours or not theirs:
        raise BuildError(
            f"attention transfer: {'the student' if not ours else 'the teacher'} has no convolutions",
            hint="set attention: 0",
            code="build.pairs",
        )
    both = [size for size in ours if size in theirs]
    if both:
        return tuple(AttentionPair(student=ours[size], teacher=theirs[size]) for size in both)
    return (AttentionPair(student=list(ours.values())[-1], teacher=list(theirs.values())[-1]),)


def find_stages(model: Any) -> Stages:
    """Return the last layer at each size at which something is convolved, in the order of the network.

    The last one, for it follows the activation and, in a residual network, the addition.
    """
    last: Stages = {}
    convolved = set()
    for layer, size in _images(model).values():
        last.pop(size, None)
        last[size] = layer.name
        if any(len(weight.shape) == 4 for weight in layer.weights):
            convolved.add(size)
    return {size: name for size, name in last.items() if size in convolved}


def _images(model: Any) -> dict[str, tuple[Any, tuple[int, int]]]:
    """Return the layers whose output is (batch, height, width, channels), by name, with height and width."""
    found = {}
    for call in read_calls(model):
        shape = call.outputs[0].shape
        if isinstance(call.layer, keras.Layer) and len(shape) == 4 and None not in shape[1:]:
            found[str(call.layer.name)] = (call.layer, (shape[1], shape[2]))
    return found


def _check(name: str, model: Any, whose: str) -> None:
    known = _images(model)
    if name not in known:
        raise BuildError(
            f"attention transfer: {whose} has no layer {name!r} with an image as its output",
            hint=f"known are {', '.join(known) or 'none'}",
            code="build.pairs",
        )
