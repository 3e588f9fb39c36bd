"""Train a Keras 3 model that ends in logits."""

from collections.abc import Callable
from typing import Any, Final

import keras

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.data import Splits
from fleet_cloud.factory.events import BuildEvent, Epoch
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.repeatable import make_repeatable
from fleet_cloud.factory.tuning import tune

BATCH_NORM_MOMENTUM: Final = 0.8
"""Small data sets have few steps an epoch: Keras' default of 0.99 would lag behind the weights."""

CNN_SIZE_MIN: Final = 4
"""Two poolings halve a side twice."""

OnEpoch = Callable[[int, int, float, float, float], None]
"""(epoch, epochs, loss, validation accuracy, seconds left)"""


def train(splits: Splits, architecture: Architecture, training: Training, on_epoch: OnEpoch) -> Any:
    """Return the trained model (logits out); the weights of the best validation accuracy are kept.

    The same seed, data, libraries and kind of processor give the same weights. Raises `RecipeError`
    (``recipe.architecture``) when the architecture does not fit the samples, and `BuildError` as `tune`
    does.
    """
    check_architecture(architecture, splits.train.x.shape[1:])
    make_repeatable(training.seed)
    model = build_model(architecture, splits.train.x.shape[1:], len(splits.labels))
    lab = Lab(
        train=Part(splits.train.x, splits.train.y),
        validation=Part(splits.validation.x, splits.validation.y),
        preprocessing=splits.preprocessing,
        labels=splits.labels,
        seed=training.seed,
        say=_teller(on_epoch),
    )
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


def check_architecture(architecture: Architecture, shape: tuple[int, ...]) -> None:
    """Raise `RecipeError` (``recipe.architecture``) when samples of ``shape`` do not fit."""
    if architecture.kind == "small-cnn" and (len(shape) != 3 or min(shape[:2]) < CNN_SIZE_MIN):
        raise RecipeError(
            f"architecture small-cnn takes images of at least {CNN_SIZE_MIN}x{CNN_SIZE_MIN}, "
            f"and the samples are {shape}",
            hint="choose kind: mlp",
            code="recipe.architecture",
        )


def build_model(architecture: Architecture, shape: tuple[int, ...], classes: int) -> Any:
    """Return an untrained model for samples of ``shape``; small enough for any Pi."""
    layers = keras.layers
    width = architecture.units
    inputs = keras.Input(shape)
    if architecture.kind == "mlp":
        x = layers.Flatten()(inputs) if len(shape) > 1 else inputs
        x = layers.Dense(4 * width, activation="relu")(x)
        x = layers.Dense(2 * width, activation="relu")(x)
    else:
        x = inputs
        for factor in (1, 2):
            x = layers.Conv2D(factor * width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
            x = layers.ReLU()(x)
            x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x) if min(shape[:2]) <= 16 else layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(4 * width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def with_softmax(model: Any) -> Any:
    """Return the model as it is released: probabilities out."""
    return keras.Model(model.input, keras.layers.Softmax()(model.output))
