"""Residual networks of 6n + 2 layers for small images, after He et al. (2015), section 4.2.

Laid out as in MLPerf Tiny's image classification, so that its weights fit: biases before batch norm, and a
shortcut that changes its width through a 1x1 convolution without batch norm.
"""

from typing import Any, Final

import keras

from fleet_cloud.factory.architectures.unit import average, convolve

STAGES: Final = 3
"""Each doubles the filters, and all but the first halve height and width."""


def build_resnet(inputs: Any, outputs: int, units: int, depth: int) -> Any:
    """Return the logits. ``units``: filters of the first stage; ``depth``: 8, 14, 20, ..."""
    x = convolve(inputs, units, "stem", bias=True)
    for stage in range(1, STAGES + 1):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _add_block(x, units * 2 ** (stage - 1), stride, f"stage{stage}_block{block}")
    return keras.layers.Dense(outputs, kernel_initializer="he_normal", name="logits")(average(x))


def _add_block(x: Any, filters: int, stride: int, name: str) -> Any:
    shortcut = x
    x = convolve(x, filters, f"{name}_first", stride=stride, bias=True)
    x = convolve(x, filters, f"{name}_second", bias=True, relu=False)
    if stride != 1 or shortcut.shape[-1] != filters:
        shortcut = keras.layers.Conv2D(
            filters, 1, stride, padding="same", kernel_initializer="he_normal", name=f"{name}_shortcut"
        )(shortcut)
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_relu")(x)
