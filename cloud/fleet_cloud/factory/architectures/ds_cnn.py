"""DS-CNN: depthwise-separable convolutions, as MLPerf Tiny spots keywords with them.

Zhang, Suda, Lai and Chandra, Hello Edge: keyword spotting on microcontrollers (2017), section 3. Dropout is
left out: it has no part in what is deployed.
"""

from typing import Any, Final

import keras

from fleet_cloud.factory.architectures.unit import average, convolve, convolve_depthwise

SPECTRUM_KERNEL: Final = (10, 4)
"""Of the first convolution, in steps of time and in coefficients."""


def build_ds_cnn(inputs: Any, outputs: int, units: int, depth: int) -> Any:
    """Return the logits. ``units``: filters of every convolution; ``depth``: separable ones after the
    first, which takes every other place.

    Samples at least twice as high as wide are spectra (49x10 in MLPerf Tiny), and the first kernel is
    theirs; others are images.
    """
    height, width = inputs.shape[1:3]
    kernel = SPECTRUM_KERNEL if height >= 2 * width else 3
    x = convolve(inputs, units, "stem", kernel=kernel, stride=2)
    for number in range(1, depth + 1):
        x = convolve_depthwise(x, f"block{number}_depthwise")
        x = convolve(x, units, f"block{number}_pointwise", kernel=1)
    return keras.layers.Dense(outputs, name="logits")(average(x))
