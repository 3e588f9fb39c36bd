"""Small networks that have what folding and quantization must not trip over."""

from typing import Any

import keras
import numpy as np

from fleet_cloud.factory.network import array_of

SHAPE = (8, 8, 3)


def make_parts(seed: int = 0) -> Any:
    """Return an untrained network with a residual addition, a concatenation and depthwise parts; its batch
    normalization has statistics as after training."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input(SHAPE, name="input_layer")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = shortcut = layers.ReLU(name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.BatchNormalization(name="depthwise_norm", scale=False)(x)
    x = layers.ReLU(6.0, name="depthwise_relu")(x)
    x = layers.Conv2D(8, 1, name="point")(x)
    x = layers.BatchNormalization(name="point_norm", center=False)(x)
    x = layers.Add(name="add")([x, shortcut])
    x = layers.ReLU(name="add_relu")(x)
    left = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="left")(x)
    right = layers.MaxPooling2D(name="pool")(x)
    x = layers.Concatenate(name="concat")([left, right])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(16, name="hidden")(x)
    x = layers.BatchNormalization(name="hidden_norm")(x)
    x = layers.ReLU(name="hidden_relu")(x)
    model = keras.Model(inputs, layers.Dense(5, name="logits")(x))
    shake_norms(model, seed)
    return model


def shake_norms(model: Any, seed: int = 0) -> None:
    """Give every batch normalization random statistics, and every bias a value."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            if isinstance(layer, keras.layers.BatchNormalization):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            elif weight.name == "bias":
                weight.assign(random.normal(0, 0.1, array_of(weight).shape))
