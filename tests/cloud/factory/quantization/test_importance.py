"""The importance of weights is the diagonal of the Gauss-Newton matrix, against its exact value."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from fleet_cloud.factory.constraints import Array
from fleet_cloud.factory.lab import Part, Task
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.quantization.importance import weigh_errors
from tests.cloud.factory.small import make_lab

SAMPLES = 3200


def unlike_pixels() -> Array:
    """Images whose pixels are lit more or less often, independently."""
    random = np.random.default_rng(5)
    often = random.uniform(0.02, 0.5, (8, 8, 1))
    return np.where(random.random((SAMPLES, 8, 8, 1)) < often, 255, 0).astype(np.uint8)


def linear() -> tuple[Network, keras.layers.Dense]:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    layer = keras.layers.Dense(4, name="only")
    return Network(keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))), layer


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_of_a_linear_model_it_is_known(task: Task) -> None:
    """The output j grows by x_i with weight ij: x_i^2 p_j (1 - p_j) for classes, x_i^2 for values, whose
    loss has the identity as H."""
    lab = replace(make_lab(1), task=task, train=Part(unlike_pixels(), None))
    network, layer = linear()
    found = weigh_errors(network, lab, ["only/kernel"], samples=SAMPLES)["only/kernel"]
    x = lab.real(lab.train.x).reshape(SAMPLES, -1).astype(np.float64)
    logits = x @ array_of(layer.kernel)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = p * (1 - p) if task == "classification" else np.ones_like(p)
    exact = np.square(x).T @ loss / SAMPLES
    exact = (exact + exact.mean()) / 2
    assert found.shape == exact.shape
    assert found.sum() == pytest.approx(exact.sum(), rel=0.1)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.9
