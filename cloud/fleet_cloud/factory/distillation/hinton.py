"""Soft labels (Hinton, Vinyals, Dean 2015: Distilling the Knowledge in a Neural Network, section 2).

L = (1 - lambda) H(y, p_s) + lambda T^2 H(p_t, p_s): H is the cross-entropy, p_s and p_t are the softmax of
the logits of student and teacher, at temperature T in the second term, at 1 in the first. T^2 keeps the soft
term's share of the gradient as T changes. H(p_t, p_s) exceeds the Kullback-Leibler divergence by the entropy
of p_t, which no gradient sees.
"""

from typing import Any

import keras

Tensor = Any


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 H(p_t, p_s), the mean over the batch. Logits are (batch, classes)."""
    soft = keras.ops.softmax(teacher / temperature, axis=-1)
    said = keras.ops.log_softmax(student / temperature, axis=-1)
    return -(temperature**2) * keras.ops.mean(keras.ops.sum(soft * said, axis=-1))
