"""Weights as they are stored, read from files made by hand."""

from itertools import pairwise

import numpy as np
import pytest

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.tensors import describe_weights, make_histogram, read_weights
from tests.kit.tiny_model import make_dynamic_model, make_tiny_model


def test_weights_are_read_in_real_numbers() -> None:
    """`make_tiny_model` draws them in this way; int8 keeps those within its range to half a
    step."""
    wanted = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32) * 4
    (fp32,), (int8,) = (read_weights(make_tiny_model(int8=int8)) for int8 in (False, True))
    assert fp32.dtype == "float32"
    assert np.array_equal(fp32.real, wanted)
    assert int8.dtype == "int8"
    step = float(np.max(int8.scale))
    assert np.abs(int8.real - wanted.clip(-127 * step, 127 * step)).max() <= step / 2 + 1e-6


def test_zeros_and_different_values_are_counted() -> None:
    found = describe_weights(make_dynamic_model(classes=40, features=20, seed=3))
    codes = np.random.default_rng(3).integers(-127, 128, (40, 20))
    (tensor,) = found.tensors
    assert tensor.shape == (40, 20)
    assert tensor.zeros == found.zeros == np.count_nonzero(codes == 0)
    assert tensor.distinct == found.distinct_max == len(set(codes.ravel().tolist()))
    assert found.values == 800
    assert found.sparsity == pytest.approx(found.zeros / 800)


def test_a_histogram_has_every_value_once() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(size=500), np.zeros(77)]).astype(np.float32)
    found = make_histogram([values[:100], values[100:].reshape(9, 53)], bins=11)
    assert found is not None
    assert (sum(found.counts), found.zeros, len(found.counts)) == (500, 77, 11)
    assert found.high == -found.low == pytest.approx(np.abs(values).max())
    edges = np.linspace(found.low, found.high, 12)
    inside = [
        int(np.count_nonzero((values > low) & (values <= high) & (values != 0)))
        for low, high in pairwise(edges[3:9])
    ]
    assert list(found.counts[3:8]) == inside


def test_nothing_but_zeros_has_no_histogram() -> None:
    assert make_histogram([np.zeros((3, 3), np.float32)]) is None
    assert make_histogram([]) is None


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="damaged") as caught:
        read_weights(b"no model at all")
    assert caught.value.code == "model.file.invalid"
