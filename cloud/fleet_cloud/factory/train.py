"""The first training of an architecture, and the softmax that is put on what came out of it."""

from dataclasses import replace
from typing import Any

import keras

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.repeatable import make_repeatable
from fleet_cloud.factory.starting import make_start
from fleet_cloud.factory.tuning import tune


def train(architecture: Architecture, training: Training, lab: Lab, *, allow_code: bool = False) -> Outcome:
    """Return the trained network (logits out); the weights of the best validation score are kept. Without
    labels a model of the user's own stays as it is.

    The same seed, data, libraries and kind of processor give the same weights. ``allow_code``: see
    `fleet_cloud.factory.own_models`. Raises `RecipeError` (``recipe.architecture``) when the architecture
    does not fit the samples, and `BuildError` as `tune` does.
    """
    make_repeatable(training.seed)
    lab = replace(lab, seed=training.seed)
    network = Network(make_start(architecture, lab, allow_code=allow_code).model)
    if lab.train.y is None:
        return Outcome(network)
    tuned = tune(network, lab, as_tune(training))
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
