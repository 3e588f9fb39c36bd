"""A network and data of the smallest size that can learn something: for tests of passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fleet_cloud.factory.events import BuildEvent
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network
from fleet_shared.manifest import Preprocessing

CLASSES = 4
SIZE = 8


def make_lab(
    samples: int = 96, seed: int = 1, say: Callable[[BuildEvent], None] = lambda _event: None
) -> Lab:
    """Images (8, 8, 1) of values 0 to 255 with a bright quarter, which is the class."""
    random = np.random.default_rng(7)
    y = np.arange(2 * samples) % CLASSES
    x = random.integers(0, 160, size=(2 * samples, SIZE, SIZE, 1))
    for image, number in zip(x, y, strict=True):
        row, column = divmod(int(number), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 60
    images = x.astype(np.uint8)
    return Lab(
        train=Part(images[:samples], y[:samples]),
        validation=Part(images[samples:], y[samples:]),
        preprocessing=Preprocessing(colour="grey", scale=1 / 255),
        labels=tuple("abcd"),
        seed=seed,
        say=say,
    )


def unlabelled(lab: Lab) -> Lab:
    return replace(lab, train=Part(lab.train.x, None))


def make_network(width: int = 4, seed: int = 1) -> Network:
    """Convolution with batch norm, depthwise, convolution with stride, two dense layers; logits out."""
    return Network(make_model(width, seed))


def make_model(width: int = 4, seed: int = 1) -> Any:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(momentum=0.8, name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(2 * width, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="head")(x))
