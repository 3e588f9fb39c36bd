"""Tolls rise with the steps and follow the shares of the entries."""

import numpy as np

from fleet_cloud.factory.constraints import Array, Parts
from fleet_cloud.factory.quantization.tolls import RisingTolls

ENTRIES = np.array([-1, 0, 1], np.float32)
PRICE = np.array([[0.1, 0.4]])


def parts(tolls: Array) -> dict[str, Parts]:
    """Two channels of four weights; scales 2 and 4. Without tolls: one at -1, four at 0, three at 1."""
    latent = np.array([[-2, 0.1], [0.2, 4], [1.2, 3], [0, -1.9]], np.float32)
    scales = np.array([[2, 4]], np.float32)
    pinned = np.full(latent.shape, -1, np.int32)
    return {"k": Parts((latent, ENTRIES, scales), (np.ones(3, np.float32), tolls, pinned))}


def test_the_price_is_times_the_bits_of_the_entries_as_they_are() -> None:
    schedule = RisingTolls({"k": PRICE})
    free, tolls, pinned = schedule.revise(50, 100, parts(np.zeros((1, 2, 3), np.float32)))["k"]
    bits = -np.log2(np.array([2, 5, 4]) / 11)
    assert tolls.dtype == np.float32
    assert np.allclose(tolls, PRICE[..., np.newaxis] * bits)
    assert np.array_equal(free, np.ones(3))
    assert np.all(pinned == -1)


def test_tolls_that_are_there_decide_which_entries_weights_have() -> None:
    """A high toll on 1 sends its three weights to 0."""
    high = np.tile(np.array([0, 0, 9], np.float32), (1, 2, 1))
    (_, tolls, _) = RisingTolls({"k": PRICE}).revise(100, 100, parts(high))["k"]
    assert np.allclose(tolls[0, 0], -0.1 * np.log2(np.array([2, 8, 1]) / 11))


def test_they_rise_over_the_first_half() -> None:
    schedule = RisingTolls({"k": PRICE})
    due = schedule.due(100)
    assert due[0] == 0
    assert due[-1] == 50
    assert len(due) <= 40
    assert list(due) == sorted(set(due))
    zero = np.zeros((1, 2, 3), np.float32)
    first, middle, last = (schedule.revise(step, 100, parts(zero))["k"][1] for step in (0, 25, 50))
    assert not first.any()
    assert np.allclose(2 * middle, last)
    assert list(schedule.due(1)) == [0]
    assert schedule.revise(0, 1, parts(zero))["k"][1].all()
