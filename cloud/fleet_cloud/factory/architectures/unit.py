"""What most of the architectures are made of: a convolution, its batch norm and its ReLU as one unit."""

from typing import Any, Final

import keras

MOMENTUM: Final = 0.9
"""Of batch norm. Small data sets have few steps an epoch: Keras' default of 0.99 would lag behind."""

Pair = int | tuple[int, int]


def convolve(
    x: Any,
    filters: int,
    name: str,
    *,
    kernel: Pair = 3,
    stride: Pair = 1,
    relu: bool = True,
    bias: bool = False,
) -> Any:
    """Return ``x`` through a convolution that keeps height and width (up to ``stride``)."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        stride,
        padding="same",
        use_bias=bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return _finish(x, name, relu)


def convolve_depthwise(x: Any, name: str, *, stride: Pair = 1) -> Any:
    """Return ``x`` through one filter of 3x3 for each channel."""
    x = keras.layers.DepthwiseConv2D(
        3, stride, padding="same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return _finish(x, name, relu=True)


def average(x: Any) -> Any:
    """Return the mean of each channel. A pooling of the whole map is one kernel on every runtime."""
    x = keras.layers.AveragePooling2D(tuple(x.shape[1:3]), name="pool")(x)
    return keras.layers.Flatten(name="flatten")(x)


def _finish(x: Any, name: str, relu: bool) -> Any:
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x
