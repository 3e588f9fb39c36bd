"""What is minimised with a teacher: hard labels, soft labels, attention, together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.distillation.attention import attention_loss
from fleet_cloud.factory.distillation.hinton import soft_loss
from fleet_cloud.factory.distillation.pairs import find_pairs
from fleet_cloud.factory.graph import flatten, read_calls
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.objective import Hard, Objective
from fleet_cloud.factory.recipe.passes import AttentionPair, Distil

Tensor = Any


@dataclass(frozen=True)
class Taught:
    """An `Objective`: (1 - weight) x hard loss + weight x soft loss + attention x attention loss.

    ``teacher``: gives its logits, then the outputs of its layers in ``pairs``; it is called for inference,
    and its weights are not among those that train. For regression the soft loss is the squared error to the
    teacher's outputs.
    """

    how: Distil
    hard: Hard
    teacher: Any
    pairs: tuple[AttentionPair, ...] = ()

    @property
    def taps(self) -> Sequence[str]:
        return [pair.student for pair in self.pairs]

    @property
    def needs_labels(self) -> bool:
        return self.how.weight < 1

    def __call__(self, x: Tensor, y: Tensor, logits: Tensor, tapped: Sequence[Tensor], /) -> Tensor:
        said, *seen = map(keras.ops.stop_gradient, keras.tree.flatten(self.teacher(x, training=False)))
        loss = self.how.weight * self._soft(logits, said)
        if self.needs_labels:
            loss += (1 - self.how.weight) * self.hard(x, y, logits, ())
        if self.pairs:
            loss += self.how.attention * attention_loss(tapped, seen)
        return loss

    def _soft(self, logits: Tensor, said: Tensor) -> Tensor:
        if self.hard.task == "regression":
            return keras.ops.mean(keras.ops.square(logits - said))
        return soft_loss(logits, said, self.how.temperature)


def make_objective(how: Distil, network: Network, lab: Lab) -> Objective:
    """Return what to minimise. Raises `BuildError`: ``build.teacher`` for a teacher that is not there or does
    not fit, ``build.pairs`` for layers that cannot be paired."""
    teacher = flatten(get_teacher(how, lab.teachers))
    _check_fit(how.teacher, teacher, network.model)
    pairs = find_pairs(network.model, teacher, how.pairs) if how.attention else ()
    outputs = {call.layer.name: call.outputs[0] for call in read_calls(teacher)}
    seen = [outputs[pair.teacher] for pair in pairs]
    return Taught(how, Hard(lab.task), keras.Model(teacher.input, [teacher.output, *seen]), pairs)


def get_teacher(how: Distil, teachers: Mapping[str, Any]) -> Any:
    """Return the teacher's model, which ends in logits."""
    if how.teacher not in teachers:
        raise BuildError(
            f"there is no teacher {how.teacher!r}",
            hint=f"known are {', '.join(sorted(teachers))}" if teachers else "the recipe has no teachers",
            code="build.teacher",
        )
    return teachers[how.teacher]


def _check_fit(name: str, teacher: Any, student: Any) -> None:
    for what in ("input", "output"):
        theirs, ours = (getattr(model, f"{what}_shape")[1:] for model in (teacher, student))
        if theirs != ours:
            raise BuildError(
                f"the teacher {name!r} does not fit: its {what} is {theirs}, the network's {ours}",
                hint="a teacher takes the same samples and knows the same classes",
                code="build.teacher",
            )
