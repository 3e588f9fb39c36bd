"""Train a network further, while its weights keep what they must.

One loop for every pass: the weights that are constrained are composed of what is trained in their place,
in each step, and gradients go through. What is minimised is an `Objective`; what is held may follow a
`Schedule`. The best weights by the validation split are kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Constraint, Parts, Schedule
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, array_of, copy_model, weights_of
from fleet_cloud.factory.recipe.passes import Tune

Array = NDArray[Any]
Tensor = Any


class Objective(Protocol):
    """What is minimised. ``taps``: layers, by name, whose outputs it looks at besides the logits."""

    @property
    def taps(self) -> Sequence[str]: ...

    def __call__(self, x: Tensor, y: Tensor, logits: Tensor, tapped: Sequence[Tensor], /) -> Tensor:
        """Return the mean loss of a batch of real inputs, a scalar."""


@dataclass(frozen=True)
class Hard:
    """The labels alone: cross-entropy of logits, or the squared error."""

    task: str = "classification"
    taps: Sequence[str] = ()

    def __call__(self, _x: Tensor, y: Tensor, logits: Tensor, _tapped: Sequence[Tensor], /) -> Tensor:
        if self.task == "regression":
            return keras.ops.mean(keras.ops.square(logits - keras.ops.cast(y, logits.dtype)))
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))


@dataclass(frozen=True)
class EpochScore:
    """``score``: on the validation split, more is better (top-1, or minus the squared error)."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class Tuned:
    """``facts``: the history, as an `Outcome` reports it."""

    network: Network
    history: tuple[EpochScore, ...] = field(default=())

    @property
    def facts(self) -> dict[str, Any]:
        return {"history": [asdict(one) for one in self.history]} if self.history else {}


def tune(
    network: Network,
    lab: Lab,
    how: Tune,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
    on_epoch: Callable[[EpochScore], None] = lambda _epoch: None,
) -> Tuned:
    """Return the network after training; with no epochs, as it was given.

    With a ``schedule`` the last weights are kept, for earlier ones have not what it leads to. Raises
    `BuildError` (``build.diverged``) at the first step whose loss is no number.
    """
    if not how.epochs:
        return Tuned(network)
    trainee = _Trainee(network, objective or Hard(lab.task), how, math.ceil(len(lab.train) / how.batch_size))
    history: list[EpochScore] = []
    best, kept = -math.inf, trainee.get()
    for epoch in range(how.epochs):
        loss = trainee.run_epoch(lab, epoch, schedule)
        scored = EpochScore(epoch + 1, loss, score(trainee.finish().model, lab.validation, lab))
        history.append(scored)
        on_epoch(scored)
        if scored.score > best or schedule is not None:
            best, kept = scored.score, trainee.get()
        elif how.patience is not None and epoch + 1 - _best_epoch(history) >= how.patience:
            break
    trainee.set(kept)
    return Tuned(trainee.finish(), tuple(history))


def score(model: Any, part: Part, lab: Lab, batch_size: int = 256) -> float:
    """Return top-1 on ``part``, or minus the mean squared error. More is better."""
    total = 0.0
    forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    for begin in range(0, len(part), batch_size):
        rows = slice(begin, begin + batch_size)
        logits, y = np.asarray(forward(lab.real(part.x[rows]))), np.asarray(part.y)[rows]
        if lab.task == "regression":
            total -= float(np.square(logits - y).mean(axis=1).sum())
        else:
            total += float((logits.argmax(axis=1) == y).sum())
    return total / len(part)


class _Trainee:
    """The variables of one training: of the free weights, and the parts of the constrained ones."""

    def __init__(self, network: Network, objective: Objective, how: Tune, steps_per_epoch: int) -> None:
        self._network = network
        self._model = copy_model(network.model)
        self._objective, self._how = objective, how
        taps = [self._model.get_layer(name).output for name in objective.taps]
        self._graph = keras.Model(self._model.inputs, [self._model.output, *taps])
        self._constraints: Mapping[str, Constraint] = network.constraints
        paths = weights_of(self._model)
        parts = {path: constraint.split() for path, constraint in self._constraints.items()}
        self._trained = {path: _variables(part.trained, True) for path, part in parts.items()}
        self._held = {path: _variables(part.held, False) for path, part in parts.items()}
        free = [weight for weight in self._graph.trainable_variables if weight.path not in parts]
        self._free = free
        self._variables = [*free, *(one for some in self._trained.values() for one in some)]
        self._weights = {path: paths[path] for path in parts}
        self._step, self._steps = 0, how.epochs * steps_per_epoch
        self._optimizer = keras.optimizers.Adam(_rate(how, self._steps))
        self._optimizer.build(self._variables)
        self._compiled = tf.function(self._train_step, reduce_retracing=True)

    def run_epoch(self, lab: Lab, epoch: int, schedule: Schedule | None) -> float:
        """Return the mean loss of one pass over the training split, in an order drawn from the seed."""
        order = np.random.default_rng((lab.seed, epoch)).permutation(len(lab.train))
        losses = []
        for begin in range(0, len(order), self._how.batch_size):
            if schedule is not None and self._step in schedule.due(self._steps):
                self._revise(schedule)
            rows = np.sort(order[begin : begin + self._how.batch_size])
            x, y = lab.real(lab.train.x[rows]), np.asarray(lab.train.y)[rows]
            inputs = tf.convert_to_tensor(x)
            if lab.augment is not None:
                inputs = lab.augment(inputs, training=True)
            loss = float(self._compiled(inputs, tf.convert_to_tensor(y)))
            self._check(loss, epoch, begin // self._how.batch_size)
            losses.append(loss * len(rows))
            self._step += 1
        return sum(losses) / len(order)

    def _train_step(self, x: Tensor, y: Tensor) -> Tensor:
        trainable, others = self._graph.trainable_variables, self._graph.non_trainable_variables
        with tf.GradientTape() as tape:
            composed = self._compose()
            given = [composed.get(weight.path, weight.value) for weight in trainable]
            kept = [composed.get(weight.path, weight.value) for weight in others]
            outputs, updated = self._graph.stateless_call(given, kept, x, training=True)
            logits, *tapped = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            loss = self._objective(x, y, logits, tapped)
        gradients = tape.gradient(loss, [one.value for one in self._variables])
        pairs = [
            (gradient, one)
            for gradient, one in zip(gradients, self._variables, strict=True)
            if gradient is not None
        ]
        self._optimizer.apply_gradients(pairs)
        for weight, value in zip(others, updated, strict=True):
            if weight.path not in composed:
                weight.assign(value)
        return loss

    def _compose(self) -> dict[str, Tensor]:
        return {
            path: constraint.compose(
                [one.value for one in self._trained[path]], [one.value for one in self._held[path]]
            )
            for path, constraint in self._constraints.items()
        }

    def _revise(self, schedule: Schedule) -> None:
        for path, arrays in schedule.revise(self._step, self._steps, self._parts()).items():
            for one, array in zip(self._held[path], arrays, strict=True):
                one.assign(array)

    def _parts(self) -> dict[str, Parts]:
        return {
            path: Parts(
                tuple(array_of(one) for one in self._trained[path]),
                tuple(array_of(one) for one in self._held[path]),
            )
            for path in self._constraints
        }

    def _check(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            raise BuildError(
                f"the training diverged: the loss of epoch {epoch + 1}, step {step + 1} is no number",
                hint="a smaller learning_rate helps; check the data for values that are no numbers",
                code="build.diverged",
            )

    def finish(self) -> Network:
        """Return the network as it is now: the constraints settled, the weights as they say."""
        settled = {path: self._constraints[path].settle(parts) for path, parts in self._parts().items()}
        return replace(self._network, model=copy_model(self._model)).constrain(settled)

    def get(self) -> list[Array]:
        return [array_of(one) for one in self._all()]

    def set(self, values: Sequence[Array]) -> None:
        for one, value in zip(self._all(), values, strict=True):
            one.assign(value)

    def _all(self) -> list[Any]:
        parts = [*self._trained.values(), *self._held.values()]
        return [*self._model.weights, *(one for some in parts for one in some)]


def _variables(arrays: Sequence[Array], trainable: bool) -> list[Any]:
    return [
        keras.Variable(array, dtype=array.dtype.name, trainable=trainable, name=f"part_{number}")
        for number, array in enumerate(arrays)
    ]


def _rate(how: Tune, steps: int) -> Any:
    if how.decay == "none":
        return how.learning_rate
    return keras.optimizers.schedules.CosineDecay(how.learning_rate, max(1, steps))


def _best_epoch(history: Sequence[EpochScore]) -> int:
    return max(history, key=lambda one: one.score).epoch
