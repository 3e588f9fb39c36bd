"""Train a network further, while its weights keep what they must.

One loop for the first training and for every pass: the weights that are constrained are composed of what is
trained in their place, in each step, and gradients go through. What is minimised is an `Objective`; what is
held may follow a `Schedule`. The best epoch by the validation split is kept.

Gradients are not clipped: a training that diverges ends at once and says where, which is better than one
that goes on with a direction that means nothing.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Schedule
from fleet_cloud.factory.events import Epoch, Warned
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.objective import Hard, Objective
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.trainee import Trainee, take_batch

Array = NDArray[Any]

VALIDATION_BATCH: Final = 256

_OUT_OF_MEMORY: Final = (MemoryError, tf.errors.ResourceExhaustedError)


@dataclass(frozen=True)
class EpochScore:
    """``score``: on the validation split, more is better: top-1, or minus the squared error."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class Tuned:
    """``best``: the epoch whose weights were kept. ``notes``: what else a report should say of it."""

    network: Network
    history: tuple[EpochScore, ...] = ()
    best: EpochScore | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What an `Outcome` says of it."""
        if self.best is None:
            return {}
        history = [asdict(one) for one in self.history]
        return {"history": history, "best_epoch": self.best.epoch, **self.notes}


def tune(
    network: Network,
    lab: Lab,
    how: Tune,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> Tuned:
    """Return the network after training; with no epochs, as it was given. Each epoch is told as an event.

    With a ``schedule``, epochs before its end are not kept: they have not what it leads to. When the memory
    does not suffice, it begins once more with half the batch. Raises `BuildError`: ``build.diverged`` at the
    first step whose loss is no number, or epoch whose outputs are none; ``build.memory``; ``build.labels``
    when there are no labels to judge by, or none to train on and the objective needs them.
    """
    if not how.epochs:
        return Tuned(network)
    objective = objective or Hard(lab.task)
    if lab.validation.y is None or (lab.train.y is None and objective.needs_labels):
        raise BuildError(
            "the samples have no labels to train on",
            hint="learn from a teacher alone (distil with weight: 1), or leave out the epochs",
            code="build.labels",
        )
    try:
        return _train(network, lab, how, objective, schedule)
    except _OUT_OF_MEMORY:
        how = msgspec.structs.replace(how, batch_size=max(1, how.batch_size // 2))
        lab.say(
            Warned(message=f"out of memory: trained with batches of {how.batch_size}, half of what was asked")
        )
    try:
        return _train(network, lab, how, objective, schedule)
    except _OUT_OF_MEMORY as exc:
        raise BuildError(
            f"out of memory, also with batches of {how.batch_size}",
            hint="a smaller batch_size or a smaller network; or end what else uses the memory",
            code="build.memory",
        ) from exc


def score(model: Any, part: Part, lab: Lab) -> float:
    """Return top-1 on a labelled part, or minus the mean squared error. More is better."""
    said, y = predict(model, part, lab), np.asarray(part.y)
    return float(
        -np.square(said - y).mean() if lab.task == "regression" else (said.argmax(axis=1) == y).mean()
    )


def predict(model: Any, part: Part, lab: Lab) -> Array:
    """Return the outputs (n, outputs) for all samples of a part, in smaller batches when the memory does not
    suffice."""
    compiled = tf.function(lambda x: model(x, training=False), reduce_retracing=True, autograph=False)
    said: list[Array] = []
    begin, size = 0, min(VALIDATION_BATCH, len(part))
    while begin < len(part):
        try:
            said.append(array_of(compiled(lab.real(part.x[begin : begin + size]))))
            begin += size
        except _OUT_OF_MEMORY:
            if size == 1:
                raise
            size //= 2
    return np.concatenate(said)


def _train(network: Network, lab: Lab, how: Tune, objective: Objective, schedule: Schedule | None) -> Tuned:
    steps = how.epochs * math.ceil(len(lab.train) / how.batch_size)
    trainee = Trainee(network, lab, how, objective, schedule, steps)
    begin = time.monotonic()
    history: list[EpochScore] = []
    best, kept = None, trainee.snapshot()
    for epoch in range(1, how.epochs + 1):
        loss = _run_epoch(trainee, lab, how.batch_size, epoch)
        scored = EpochScore(epoch, loss, trainee.score(min(VALIDATION_BATCH, 4 * how.batch_size)))
        if not math.isfinite(scored.score):
            raise _diverged(f"after epoch {epoch} the outputs are no numbers")
        history.append(scored)
        lab.say(_describe(scored, lab, how.epochs, (time.monotonic() - begin) / epoch))
        if not trainee.is_settled:
            continue
        if best is None or scored.score > best.score:
            best, kept = scored, trainee.snapshot()
        elif how.patience is not None and epoch - best.epoch >= how.patience:
            break
    if best is None:
        raise ValueError("the schedule ends after the training")
    trainee.restore(kept)
    return Tuned(trainee.finish(), tuple(history), best)


def _run_epoch(trainee: Trainee, lab: Lab, batch_size: int, epoch: int) -> float:
    """Return the mean loss of one pass over the training split, in an order drawn from the seed."""
    order = np.random.default_rng((lab.seed, epoch)).permutation(len(lab.train))
    total = 0.0
    for step, first in enumerate(range(0, len(order), batch_size), start=1):
        rows = np.sort(order[first : first + batch_size])
        loss = trainee.train(*take_batch(lab.train, rows, lab))
        if not math.isfinite(loss):
            raise _diverged(f"the loss of epoch {epoch}, step {step} is no number")
        total += loss * len(rows)
    return total / len(order)


def _diverged(what: str) -> BuildError:
    return BuildError(
        f"the training diverged: {what}",
        hint="a smaller learning_rate helps; check the data for values that are no numbers",
        code="build.diverged",
    )


def _describe(scored: EpochScore, lab: Lab, epochs: int, seconds: float) -> Epoch:
    told = Epoch(
        epoch=scored.epoch, epochs=epochs, loss=scored.loss, seconds_left=(epochs - scored.epoch) * seconds
    )
    if lab.task == "classification":
        return msgspec.structs.replace(told, accuracy=scored.score)
    return msgspec.structs.replace(told, error=-scored.score)
