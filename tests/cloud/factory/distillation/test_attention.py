"""Attention transfer, value and gradient, against NumPy and against finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.distillation.attention import attention_loss, averages

Array = NDArray[np.float64]


def pooled(image: Array, height: int, width: int) -> Array:
    """The mean of each window, by loops; windows are as those of adaptive pooling."""
    result = np.zeros((height, width))
    rows, columns = image.shape
    for i in range(height):
        for j in range(width):
            top, bottom = int(np.floor(i * rows / height)), int(np.ceil((i + 1) * rows / height))
            left, right = int(np.floor(j * columns / width)), int(np.ceil((j + 1) * columns / width))
            result[i, j] = image[top:bottom, left:right].mean()
    return result


def by_hand(student: list[Array], teacher: list[Array]) -> float:
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        size = (min(ours.shape[1], theirs.shape[1]), min(ours.shape[2], theirs.shape[2]))
        for one, other in zip(ours, theirs, strict=True):
            maps = [pooled((each**2).mean(axis=-1), *size).ravel() for each in (one, other)]
            apart = maps[0] / np.linalg.norm(maps[0]) - maps[1] / np.linalg.norm(maps[1])
            total += float(np.sum(apart**2)) / len(ours)
    return total


@pytest.mark.parametrize(
    ("ours", "theirs"), [((4, 4, 2), (4, 4, 5)), ((2, 3, 2), (4, 6, 3)), ((5, 4, 2), (3, 4, 1))]
)
def test_value_and_gradient(ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    student = [random.normal(size=(2, *ours)), random.normal(size=(2, 2, 2, 3))]
    teacher = [random.normal(size=(2, *theirs)), random.normal(size=(2, 2, 2, 1))]
    given = [tf.constant(one) for one in student]
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = attention_loss(given, [tf.constant(one) for one in teacher])
    assert float(loss) == pytest.approx(by_hand(student, teacher), rel=1e-6)
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, given)]
    for number, (values, gradient) in enumerate(zip(student, gradients, strict=True)):
        for index in np.ndindex(values.shape):
            sides = []
            for sign in (1, -1):
                nudged = [one.copy() for one in student]
                nudged[number][index] += sign * 1e-5
                sides.append(by_hand(nudged, teacher))
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


def test_what_looks_at_the_same_places_costs_nothing_however_strong() -> None:
    activations = np.random.default_rng(1).normal(size=(3, 4, 4, 2))
    assert float(attention_loss([10 * activations], [activations])) == pytest.approx(0, abs=1e-12)


def test_a_map_of_zeros_gives_a_number_and_no_gradient() -> None:
    """A dead layer: the norm is zero. The other map has norm 1."""
    given = tf.zeros((1, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = attention_loss([given], [tf.ones((1, 2, 2, 1))])
    assert float(loss) == pytest.approx(1)
    assert not tape.gradient(loss, given).numpy().any()


@pytest.mark.parametrize(("before", "after"), [(8, 4), (7, 3), (5, 5), (3, 2), (9, 1)])
def test_pooling_takes_every_row_and_means_of_them(before: int, after: int) -> None:
    matrix = averages(before, after)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert np.all(matrix.sum(axis=0) > 0)
