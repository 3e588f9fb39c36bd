"""Two convolutions with pooling and a dense layer; small enough for any Pi."""

from typing import Any, Final

import keras

MOMENTUM: Final = 0.8
"""Of batch norm: made for data sets of a few hundred samples."""


def build_small_cnn(inputs: Any, outputs: int, units: int) -> Any:
    """Return the logits. ``units``: filters of the first convolution."""
    layers, x = keras.layers, inputs
    for number, factor in ((1, 1), (2, 2)):
        x = layers.Conv2D(factor * units, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    small = min(inputs.shape[1:3]) <= 16
    x = layers.Flatten(name="flatten")(x) if small else layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dense(4 * units, activation="relu", name="hidden")(x)
    return layers.Dense(outputs, name="logits")(x)
