"""How much the loss minds an error of each weight.

The diagonal of the Gauss-Newton matrix: for small errors e of the weights, the loss grows by about
sum(importance x e^2) / 2 for a sample (Choi, El-Khamy, Lee, "Towards the limit of network quantization",
ICLR 2017, section 3, weigh k-means so). It is J^T H J, J the derivative of the outputs in the weights and H
that of the loss in the outputs, twice: diag(p) - p p^T for cross-entropy, whatever the label is, so that
samples without labels do.

H = B B^T with B = diag(sqrt p) - p sqrt(p)^T. For random signs s the square of the gradient of
(B s) . outputs has the diagonal as its mean, over a batch too: signs of different samples do not correlate.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, weights_of

Array = NDArray[Any]

SAMPLES: Final = 512
_BATCH: Final = 16
_SMOOTH: Final = 0.5
"""The share of the mean of the tensor: single estimates are rough."""


def weigh_errors(
    network: Network, lab: Lab, paths: Sequence[str], samples: int = SAMPLES
) -> dict[str, Array]:
    """Return the importance of each weight by its path, in its shape, smoothed; the same for a seed."""
    variables = [weights_of(network.model)[path] for path in paths]
    random = np.random.default_rng(lab.seed)
    x = lab.draw(samples)
    sums = [np.zeros(variable.shape) for variable in variables]

    def gradients(batch: Any, signs: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = network.model(batch, training=False)
            total = keras.ops.sum(outputs * keras.ops.stop_gradient(_direction(outputs, signs, lab.task)))
        return tape.gradient(total, [variable.value for variable in variables])

    compiled = tf.function(gradients, reduce_retracing=True)
    for begin in range(0, len(x), _BATCH):
        batch = x[begin : begin + _BATCH]
        signs = random.choice([-1.0, 1.0], (len(batch), network.model.output.shape[-1])).astype(np.float32)
        found = compiled(tf.convert_to_tensor(batch), tf.convert_to_tensor(signs))
        squares = [np.square(np.asarray(one, np.float64)) for one in found]
        sums = [total + square for total, square in zip(sums, squares, strict=True)]
    return {path: _smooth(total / len(x)) for path, total in zip(paths, sums, strict=True)}


def _direction(outputs: Any, signs: Any, task: str) -> Any:
    """Return B s."""
    if task == "regression":
        return signs
    share = keras.ops.softmax(outputs)
    root = keras.ops.sqrt(share) * signs
    return root - share * keras.ops.sum(root, axis=-1, keepdims=True)


def _smooth(importance: Array) -> Array:
    mean = float(importance.mean())
    return np.asarray((1 - _SMOOTH) * importance + _SMOOTH * mean) if mean > 0 else np.ones_like(importance)
