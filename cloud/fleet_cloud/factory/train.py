"""Train a Keras 3 model that ends in logits."""

from collections.abc import Callable
from typing import Any

import keras

from fleet_cloud.factory.data import Splits, make_lab
from fleet_cloud.factory.events import BuildEvent, Epoch
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.repeatable import make_repeatable
from fleet_cloud.factory.starting import make_start
from fleet_cloud.factory.tuning import tune

OnEpoch = Callable[[int, int, float, float, float], None]
"""(epoch, epochs, loss, validation accuracy, seconds left)"""


def train(splits: Splits, architecture: Architecture, training: Training, on_epoch: OnEpoch) -> Any:
    """Return the trained model (logits out); the weights of the best validation accuracy are kept.

    The same seed, data, libraries and kind of processor give the same weights. Raises `RecipeError`
    (``recipe.architecture``) when the architecture does not fit the samples, and `BuildError` as `tune`
    does.
    """
    make_repeatable(training.seed)
    lab = make_lab(splits, training.seed, _teller(on_epoch))
    model = make_start(architecture, lab).model
    return tune(Network(model), lab, as_tune(training)).network.model


def as_tune(training: Training) -> Tune:
    """Return how the first training goes, in the words of all others."""
    return Tune(
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        decay="none",
        patience=training.patience,
    )


def _teller(on_epoch: OnEpoch) -> Callable[[BuildEvent], None]:
    def say(event: BuildEvent) -> None:
        if isinstance(event, Epoch):
            on_epoch(event.epoch, event.epochs, event.loss, event.accuracy or 0.0, event.seconds_left)

    return say


def with_softmax(model: Any) -> Any:
    """Return the model as it is released: probabilities out."""
    return keras.Model(model.input, keras.layers.Softmax()(model.output))
