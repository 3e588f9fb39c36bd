"""A network in training: its variables, and one step over them, compiled once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Constraint, Parts, Schedule
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, array_of, copy_model, weights_of
from fleet_cloud.factory.objective import Objective, rate
from fleet_cloud.factory.recipe.passes import Tune

Array = NDArray[Any]
Tensor = Any


class Trainee:
    """The free weights, and the parts of the constrained ones, which take the weights' place. What was scaled
    is divided by its `Network.step_sizes`, for Adam's steps do not shrink with what they change.

    What draws random numbers in the model or the augmentation begins anew from the lab's seed. Raises
    `BuildError` (``build.frozen``) when no weight may change.
    """

    def __init__(
        self,
        network: Network,
        lab: Lab,
        how: Tune,
        objective: Objective,
        schedule: Schedule | None,
        steps: int,
    ) -> None:
        self._network, self._lab, self._objective = network, lab, objective
        self._schedule, self._steps, self._step = schedule, steps, 0
        self._due = frozenset(schedule.due(steps)) if schedule else frozenset[int]()
        self._constraints = {**_free_weights(network), **network.constraints}
        self._model = copy_model(network.model)
        _reseed([self._model, *([] if lab.augment is None else [lab.augment])], lab.seed)
        taps = [self._model.get_layer(name).output for name in objective.taps]
        self._graph = keras.Model(self._model.input, [self._model.output, *taps])
        parts = {path: constraint.split() for path, constraint in self._constraints.items()}
        self._sizes = {path: _find_sizes(one, network.step_sizes.get(path)) for path, one in parts.items()}
        self._trained = {
            path: _variables(_divide(one.trained, self._sizes[path]), True) for path, one in parts.items()
        }
        self._held = {path: _variables(one.held, False) for path, one in parts.items()}
        self._learning = [
            part
            for weight in self._graph.trainable_variables  # without those of frozen layers
            for part in self._trained.get(weight.path, [weight])
        ]
        if not self._learning:
            raise BuildError(
                "all layers of the model are frozen: there is nothing to train",
                hint="set layer.trainable = True before it is saved; or epochs: 0",
                code="build.frozen",
            )
        self._optimizer = keras.optimizers.Adam(_learning_rate(how, steps))
        self._optimizer.build(self._learning)
        signature = _signature(self._model, lab)
        self._train_compiled = tf.function(self._train_batch, signature, autograph=False)
        self._rate_compiled = tf.function(self._rate_batch, signature, autograph=False)

    @property
    def is_settled(self) -> bool:
        """Whether the schedule has nothing left to change."""
        return self._step > max(self._due, default=-1)

    def train(self, x: Array, y: Array) -> float:
        """Take one step over a batch of real inputs; return its loss before the step."""
        if self._schedule is not None and self._step in self._due:
            self._revise(self._schedule)
        self._step += 1
        return float(self._train_compiled(x, y))

    def score(self, batch_size: int) -> float:
        """Return the mean of `rate` over the validation split."""
        part, total = self._lab.validation, 0.0
        for begin in range(0, len(part), batch_size):
            x, y = take_batch(part, slice(begin, begin + batch_size), self._lab)
            total += float(self._rate_compiled(x, y))
        return total / len(part) if math.isfinite(total) else -math.inf

    def snapshot(self) -> list[Tensor]:
        """Return all values as they are now, without taking them from the device."""
        return [tf.identity(one.value) for one in self._all()]

    def restore(self, values: Sequence[Tensor]) -> None:
        for one, value in zip(self._all(), values, strict=True):
            one.assign(value)

    def finish(self) -> Network:
        """Return the network as it is now: the constraints settled, the weights as they say."""
        settled = {path: self._constraints[path].settle(parts) for path, parts in self._parts().items()}
        network = replace(self._network, model=self._model).constrain(settled)
        kept = {path: one for path, one in network.constraints.items() if not isinstance(one, _Free)}
        return replace(network, constraints=kept)

    def _train_batch(self, x: Tensor, y: Tensor) -> Tensor:
        if self._lab.augment is not None:
            x = self._lab.augment(x, training=True)
        with tf.GradientTape() as tape:
            composed = self._compose()
            logits, tapped, penalties, changes = self._call(x, composed, training=True)
            loss = self._objective(x, y, logits, tapped)
            total = tf.add_n([loss, *penalties])
        gradients = tape.gradient(total, [one.value for one in self._learning])
        pairs = zip(gradients, self._learning, strict=True)
        self._optimizer.apply_gradients([(gradient, one) for gradient, one in pairs if gradient is not None])
        for weight, value in changes:
            weight.assign(value)
        return loss

    def _rate_batch(self, x: Tensor, y: Tensor) -> Tensor:
        logits, _tapped, _penalties, _changes = self._call(x, self._compose(), training=False)
        return tf.reduce_sum(rate(self._lab.task, y, logits))

    def _call(self, x: Tensor, composed: Mapping[str, Tensor], training: bool) -> tuple[Any, ...]:
        """Return logits, tapped outputs, the layers' own losses (of regularizers), and what else changes:
        statistics and states of random generators, as (variable, new value)."""
        others = self._graph.non_trainable_variables
        learnt = [composed.get(weight.path, weight.value) for weight in self._graph.trainable_variables]
        given = [composed.get(weight.path, weight.value) for weight in others]
        outputs, values, penalties = self._graph.stateless_call(
            learnt, given, x, training=training, return_losses=True
        )
        logits, *tapped = keras.tree.flatten(outputs)
        changes = [
            (weight, after)
            for weight, before, after in zip(others, given, values, strict=True)
            if after is not before
        ]
        return logits, tapped, penalties, changes

    def _revise(self, schedule: Schedule) -> None:
        for path, arrays in schedule.revise(self._step, self._steps, self._parts()).items():
            for one, array in zip(self._held[path], arrays, strict=True):
                one.assign(array)

    def _compose(self) -> dict[str, Tensor]:
        return {
            path: constraint.compose(
                [one.value * size for one, size in zip(self._trained[path], self._sizes[path], strict=True)],
                [one.value for one in self._held[path]],
            )
            for path, constraint in self._constraints.items()
        }

    def _parts(self) -> dict[str, Parts]:
        return {
            path: Parts(
                tuple(
                    array_of(one) * size
                    for one, size in zip(self._trained[path], self._sizes[path], strict=True)
                ),
                tuple(array_of(one) for one in self._held[path]),
            )
            for path in self._constraints
        }

    def _all(self) -> list[Any]:
        parts = [*self._trained.values(), *self._held.values()]
        return [*self._model.weights, *(one for some in parts for one in some)]


@dataclass(frozen=True, eq=False)
class _Free:
    """A weight that keeps nothing, but was scaled: only while it is trained."""

    kind: ClassVar[str] = "free"
    weight: Array

    def split(self) -> Parts:
        return Parts((self.weight,))

    def compose(self, trained: Sequence[Tensor], _held: Sequence[Tensor]) -> Tensor:
        return trained[0]

    def settle(self, parts: Parts) -> "_Free":
        return _Free(parts.trained[0])


def _free_weights(network: Network) -> dict[str, Constraint]:
    weights = weights_of(network.model)
    return {path: _Free(array_of(weights[path])) for path in network.step_sizes}


def _find_sizes(parts: Parts, step_size: Array | None) -> tuple[Array, ...]:
    """Return what each trained part takes for 1: what the weight does, on average where weights share a row,
    and 1 for ratios of weights."""
    if step_size is None:
        return tuple(np.ones((), np.float32) for _ in parts.trained)
    return tuple(_find_size(parts, number, step_size) for number in range(len(parts.trained)))


def _find_size(parts: Parts, number: int, step_size: Array) -> Array:
    if number in parts.ratios:
        return np.ones((), np.float32)
    if (rows := parts.rows.get(number)) is None:
        return step_size
    count, sizes = len(parts.trained[number]), np.broadcast_to(step_size, rows.shape)
    shared = np.bincount(rows.ravel(), minlength=count)
    total = np.bincount(rows.ravel(), sizes.ravel(), minlength=count)
    mean = np.where(shared > 0, total / np.maximum(shared, 1), 1.0)
    return np.asarray(mean, np.float32).reshape(-1, *[1] * (parts.trained[number].ndim - 1))


def _divide(arrays: Sequence[Array], sizes: Sequence[Array]) -> list[Array]:
    return [(array / size).astype(array.dtype) for array, size in zip(arrays, sizes, strict=True)]


def take_batch(part: Part, rows: Any, lab: Lab) -> tuple[Array, Array]:
    """Return real inputs and labels as the compiled steps take them; zeros where there are no labels."""
    x = lab.real(part.x[rows])
    shape, kind = ((len(x), 1), np.float32) if lab.task == "regression" else ((len(x),), np.int64)
    return x, np.zeros(shape, kind) if part.y is None else part.y[rows].astype(kind)


def _signature(model: Any, lab: Lab) -> list[Any]:
    target = (None, None) if lab.task == "regression" else (None,)
    return [
        tf.TensorSpec((None, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec(target, tf.float32 if lab.task == "regression" else tf.int64),
    ]


def _reseed(layers: Sequence[Any], seed: int) -> None:
    found = [one for layer in layers for one in layer.variables if one.path.endswith("seed_generator_state")]
    for number, state in enumerate(found):
        state.assign([seed + number, 0])


def _variables(arrays: Sequence[Array], trainable: bool) -> list[Any]:
    return [
        keras.Variable(array, dtype=array.dtype.name, trainable=trainable, name=f"part_{number}")
        for number, array in enumerate(arrays)
    ]


def _learning_rate(how: Tune, steps: int) -> Any:
    return (
        how.learning_rate
        if how.decay == "none"
        else keras.optimizers.schedules.CosineDecay(how.learning_rate, steps)
    )
