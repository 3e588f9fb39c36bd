"""The mission's linear quantization: its worked example, both directions, and its error bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_cloud.factory.quantization.linear import LinearRange

WORKED = LinearRange(-1.0, 1.0, 0, 255)


def test_the_worked_example() -> None:
    real = np.array([-1.0, -0.5, -0.1, 0.25, 0.9, 1.0])
    assert WORKED.factor == 127.5
    assert WORKED.quantize(real).tolist() == [0, 64, 115, 159, 242, 255]
    assert WORKED.quantize(real).tolist() == [round((r + 1) / 2 * 255) for r in real.tolist()]
    integers = np.arange(256)
    np.testing.assert_allclose(WORKED.dequantize(integers), integers / 127.5 - 1, atol=1e-15)
    assert WORKED.quantize(WORKED.dequantize(integers)).tolist() == integers.tolist()


def test_zero_lies_between_two_integers() -> None:
    below, above = WORKED.dequantize(np.array([127, 128]))
    assert below == pytest.approx(-1 / 255)
    assert above == pytest.approx(1 / 255)
    assert WORKED.error_max == pytest.approx(1 / 255), "zero is as far off as anything can be"


def test_what_lies_outside_gets_the_ends() -> None:
    assert WORKED.quantize(np.array([-7.0, 7.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    "ends",
    [
        (1.0, 1.0, 0, 255),
        (2.0, 1.0, 0, 255),
        (0.0, 1.0, 5, 5),
        (0.0, np.nan, 0, 1),
        (-np.inf, 0.0, 0, 1),
        (-1e308, 1e308, 0, 1),
    ],
)
def test_what_is_no_range_is_refused(ends: tuple[float, float, int, int]) -> None:
    with pytest.raises(ValueError, match="no range"):
        LinearRange(*ends)


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    share=st.floats(0, 1),
    q_min=st.integers(-300, 300),
    steps=st.integers(1, 1000),
)
def test_no_error_is_larger_than_half_a_step(
    low: float, width: float, share: float, q_min: int, steps: int
) -> None:
    quantizer = LinearRange(low, low + width, q_min, q_min + steps)
    real = np.array([low, low + width, np.clip(low + share * width, low, low + width)])
    integers = quantizer.quantize(real)
    assert q_min <= integers.min() <= integers.max() <= q_min + steps
    assert integers[:2].tolist() == [q_min, q_min + steps], "the ends are exact"
    rounding = 1e-9 * (abs(low) + width)
    assert np.abs(quantizer.dequantize(integers) - real).max() <= quantizer.error_max + rounding
