"""Hinton's loss, value and gradient, against NumPy and against finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.distillation.hinton import soft_loss

Array = NDArray[np.float64]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def by_hand(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 times the cross-entropy of two distributions, sample by sample."""
    total = 0.0
    for ours, theirs in zip(softmax(student / temperature), softmax(teacher / temperature), strict=True):
        total += -sum(q * np.log(p) for p, q in zip(ours, theirs, strict=True))
    return float(temperature**2 * total / len(student))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_value_and_gradient(temperature: float) -> None:
    random = np.random.default_rng(1)
    student, teacher = random.normal(0, 3, size=(2, 5, 4))
    given = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = soft_loss(given, tf.constant(teacher), temperature)
    assert float(loss) == pytest.approx(by_hand(student, teacher, temperature))
    expected = temperature * (softmax(student / temperature) - softmax(teacher / temperature)) / 5
    gradient = tape.gradient(loss, given).numpy()
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
    for index in np.ndindex(student.shape):
        nudge = np.zeros_like(student)
        nudge[index] = 1e-5
        sides = [by_hand(student + sign * nudge, teacher, temperature) for sign in (1, -1)]
        assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7)


def test_the_worked_value() -> None:
    """Two classes, T = 2: p_t = (3/4, 1/4), p_s = (1/2, 1/2), so H = log 2 and L = 4 log 2."""
    teacher = np.array([[2 * np.log(3), 0.0]])
    assert float(soft_loss(tf.zeros((1, 2), tf.float64), teacher, 2.0)) == pytest.approx(4 * np.log(2))


def test_large_logits_are_no_trouble() -> None:
    loss = soft_loss(tf.constant([[1e4, 0.0]]), tf.constant([[-1e4, 0.0]]), 1.0)
    assert float(loss) == pytest.approx(1e4)
