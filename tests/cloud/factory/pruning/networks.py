"""Small networks of all kinds of parts, and data for them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.pruning.channels import Role
from fleet_cloud.factory.pruning.dependencies import Dependencies
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
SIDE = 6
CLASSES = 3


def make_network(blocks: Sequence[tuple[str, int]], seed: int = 0, head: str = "flatten") -> Any:
    """Return a model of these blocks, each with its width, and random weights (statistics too)."""
    inputs = keras.Input((SIDE, SIDE, 2), name="picture")
    x = layers.Conv2D(5, 3, padding="same", name="stem")(inputs)
    for kind, width in blocks:
        x = BLOCKS[kind](x, width)
    x = layers.Flatten()(x) if head == "flatten" else layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return randomize(keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x)), seed)


def randomize(model: Any, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if weight.path.endswith("variance") else -1.0
        weight.assign(random.uniform(low, 1, weight.shape))
    return model


def silence(model: Any, dependencies: Dependencies, channels: set[int]) -> None:
    """Make these channels zero in every layer that makes or carries them."""
    weights = {weight.path: weight for weight in model.weights}
    for one in dependencies.slices:
        if one.role is not Role.TAKES:
            array = np.moveaxis(np.array(weights[one.path].numpy()), one.axis, 0)
            array[np.isin(one.channels, sorted(channels))] = 0
            weights[one.path].assign(np.moveaxis(array, 0, one.axis))


def make_lab(samples: int = 96, seed: int = 1) -> Lab:
    """Pictures whose class can be told from their mean, as integers of 8 bits."""
    random = np.random.default_rng(seed)
    y = np.arange(samples) % CLASSES
    x = random.integers(0, 60, (samples, SIDE, SIDE, 2)) + 60 * y[:, None, None, None]
    part = Part(x.astype(np.uint8), y)
    return Lab(
        train=part,
        validation=Part(part.x[:30], part.y[:30] if part.y is not None else None),
        preprocessing=Preprocessing(scale=1 / 255),
        labels=tuple("abc"),
        seed=seed,
        say=lambda _event: None,
    )


def _activate(x: Any, width: int) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same")(x)))


def _shorter(x: Any, width: int) -> Any:
    return layers.MaxPooling2D(2, padding="same")(_activate(x, width))


def _residual(x: Any, width: int) -> Any:
    one = _activate(x, width)
    return layers.Add()([layers.Conv2D(x.shape[-1], 1)(one), x])


def _concatenated(x: Any, width: int) -> Any:
    """A branch that is a concatenation is added to one convolution as wide as all of it."""
    branch = layers.Concatenate()([_activate(x, width), layers.Conv2D(3, 1)(x)])
    whole = layers.Conv2D(width + 3, 1, use_bias=False)(x)
    return layers.Concatenate()([layers.Average()([whole, branch]), x])


def _depthwise(x: Any, width: int) -> Any:
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + width % 2)(x)
    x = layers.PReLU(shared_axes=[1, 2] if width % 3 else None)(layers.BatchNormalization()(x))
    return layers.Conv2D(width, 1)(x)


def _twice_as_deep(x: Any, width: int) -> Any:
    """A depthwise convolution of two outputs for each input, added to one convolution."""
    deep = layers.DepthwiseConv2D(1, depth_multiplier=2)(_activate(x, width))
    return layers.Add()([deep, layers.Conv2D(2 * width, 1)(x)])


def _separable(x: Any, width: int) -> Any:
    return layers.SeparableConv2D(width, 3, padding="same", depth_multiplier=2, activation="relu")(x)


def _squeezed(x: Any, width: int) -> Any:
    """Squeeze and excite, with the gate as 1 x 1 pixels."""
    x = _activate(x, width)
    gate = layers.Dense(width, activation="sigmoid")(
        layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(x))
    )
    return layers.Multiply()([x, layers.Reshape((1, 1, width))(gate)])


def _upward(x: Any, width: int) -> Any:
    x = layers.Conv2DTranspose(width, 2, strides=2)(layers.AveragePooling2D(2)(x))
    return layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x))


def _functions(x: Any, width: int) -> Any:
    """Functions of `keras.ops` in place of layers, and one channel that meets many."""
    one = keras.ops.relu(layers.Conv2D(width, 1)(x) + layers.Conv2D(width, 3, padding="same")(x))
    return one * 0.5 * layers.Conv2D(1, 1)(x)


BLOCKS: dict[str, Callable[[Any, int], Any]] = {
    "plain": _activate,
    "shorter": _shorter,
    "residual": _residual,
    "concatenated": _concatenated,
    "depthwise": _depthwise,
    "twice-as-deep": _twice_as_deep,
    "separable": _separable,
    "squeezed": _squeezed,
    "upward": _upward,
    "functions": _functions,
}
