"""The first training of an architecture, and the softmax that is put on what came out of it."""

from dataclasses import replace
from typing import Any

import keras

from fleet_cloud.factory.architectures import build_model, check_architecture
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.repeatable import make_repeatable
from fleet_cloud.factory.tuning import tune


def train(architecture: Architecture, training: Training, lab: Lab) -> Outcome:
    """Return the trained network; the weights of the best epoch by the validation split are kept.

    The same seed, data, libraries and kind of processor give the same weights. Raises `RecipeError`
    (``recipe.architecture``) when the architecture does not fit the samples, `BuildError` as `tune` does.
    """
    shape = lab.train.x.shape[1:]
    check_architecture(architecture, shape)
    make_repeatable(training.seed)
    model = build_model(architecture, shape, len(lab.labels))
    tuned = tune(Network(model), replace(lab, seed=training.seed), as_tune(training))
    return Outcome(tuned.network, tuned.facts)


def as_tune(training: Training) -> Tune:
    """Return how the first training goes, in the words of all others."""
    return Tune(
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        decay="none",
        patience=training.patience,
    )


def with_softmax(model: Any) -> Any:
    """Return the model as it is released: probabilities out."""
    return keras.Model(model.input, keras.layers.Softmax()(model.output))
