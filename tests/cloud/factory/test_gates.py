"""Gates hold at their boundary and fail closed."""

import math

import pytest

from fleet_cloud.factory.gates import find_gate_failure
from fleet_cloud.factory.recipe import Gates


@pytest.mark.parametrize(
    ("gates", "accuracy", "holds"),
    [
        (Gates(), 0.1, True),
        (Gates(accuracy_min=0.9), 0.9, True),
        (Gates(accuracy_min=0.9), 0.8999, False),
        (Gates(accuracy_drop_max=0.25), 0.75, True),
        (Gates(accuracy_drop_max=0.25), 0.7499, False),
        (Gates(accuracy_min=math.nan), 0.99, False),
        (Gates(accuracy_drop_max=math.nan), 0.99, False),
        (Gates(accuracy_min=0.9), math.nan, False),
    ],
)
def test_gates(gates: Gates, accuracy: float, holds: bool) -> None:
    assert (find_gate_failure(gates, accuracy, best=1.0) is None) is holds
