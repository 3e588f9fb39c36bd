"""MobileNetV2: inverted residuals with linear bottlenecks, after Sandler et al. (2018), table 2.

Layers have the names and shapes of `keras.applications`, so that weights which were saved from there load
by name. Padding is "same" throughout: at stride 2 it pads just as Keras' own padding layers do.
"""

from dataclasses import dataclass
from typing import Any, Final

import keras

from fleet_cloud.factory.architectures.unit import MOMENTUM

LAST_FILTERS: Final = 1280
MULTIPLE: Final = 8
EXPANSION: Final = 6


@dataclass(frozen=True)
class _Stage:
    filters: int
    blocks: int
    stride: int


STAGES: Final = (
    _Stage(16, 1, 1),
    _Stage(24, 2, 2),
    _Stage(32, 3, 2),
    _Stage(64, 4, 2),
    _Stage(96, 3, 1),
    _Stage(160, 3, 2),
    _Stage(320, 1, 1),
)


def build_mobilenet_v2(inputs: Any, outputs: int, width: float) -> Any:
    """Return the logits. ``width``: factor of the filters; the last convolution is never narrower than
    1,280."""
    x = _convolve(inputs, round_filters(32 * width), 3, 2, "Conv1", "bn_Conv1", "Conv1_relu")
    number = 0
    for stage in STAGES:
        for block in range(stage.blocks):
            filters = round_filters(int(stage.filters * width))
            x = _add_block(x, filters, stage.stride if block == 0 else 1, number)
            number += 1
    last = round_filters(LAST_FILTERS * max(1.0, width))
    x = _convolve(x, last, 1, 1, "Conv_1", "Conv_1_bn", "out_relu")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.layers.Dense(outputs, name="predictions")(x)


def round_filters(filters: float) -> int:
    """Return the nearest multiple of 8, at least 8 and never below nine tenths of ``filters``."""
    rounded = max(MULTIPLE, int(filters + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < 0.9 * filters else rounded


def _add_block(x: Any, filters: int, stride: int, number: int) -> Any:
    shortcut, name = x, f"block_{number}" if number else "expanded_conv"
    if number:
        expanded = EXPANSION * x.shape[-1]
        x = _convolve(x, expanded, 1, 1, f"{name}_expand", f"{name}_expand_BN", f"{name}_expand_relu")
    x = keras.layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalise(x, f"{name}_depthwise_BN")
    x = keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = _convolve(x, filters, 1, 1, f"{name}_project", f"{name}_project_BN")
    if stride == 1 and shortcut.shape[-1] == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolve(
    x: Any, filters: int, kernel: int, stride: int, name: str, norm: str, relu: str | None = None
) -> Any:
    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
    x = _normalise(x, norm)
    return keras.layers.ReLU(6.0, name=relu)(x) if relu else x


def _normalise(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=MOMENTUM, name=name)(x)
