"""A perceptron of two hidden layers, for samples of any shape."""

from typing import Any

import keras


def build_mlp(inputs: Any, outputs: int, units: int) -> Any:
    """Return the logits. ``units``: a quarter of the first layer's width, half of the second's."""
    layers = keras.layers
    x = layers.Flatten(name="flatten")(inputs) if len(inputs.shape) > 2 else inputs
    x = layers.Dense(4 * units, activation="relu", name="hidden1")(x)
    x = layers.Dense(2 * units, activation="relu", name="hidden2")(x)
    return layers.Dense(outputs, name="logits")(x)
