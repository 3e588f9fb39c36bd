"""The logarithmic quantizer over a range: its formula, its inverse, its error bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_cloud.factory.quantization.log_range import LogRange, dequantize_signed, quantize_signed

RULE = LogRange(r_min=0.0, r_max=1.0, q_min=0, q_max=255, epsilon=0.001)

magnitudes = st.floats(0.0, 1e6, allow_subnormal=False)


@st.composite
def rules(draw: st.DrawFn) -> LogRange:
    r_min = draw(magnitudes)
    r_max = r_min + draw(st.floats(1e-3, 1e6))
    q_min = draw(st.integers(-128, 0))
    return LogRange(r_min, r_max, q_min, q_min + draw(st.integers(1, 255)), draw(st.floats(1e-6, 10.0)))


def test_an_example_by_hand() -> None:
    """u(1) - u(0) = log 1001; the magnitude 0.0306 lies in the middle of the logarithms, about sqrt(1001)."""
    middle = 0.001 * (math.sqrt(1001) - 1)
    assert RULE.quantize(middle * 1.001) == 128
    assert RULE.quantize(middle * 0.999) == 127
    assert RULE.dequantize(51) == pytest.approx(0.001 * (1001**0.2 - 1))
    assert RULE.step == pytest.approx(math.log(1001) / 255)


@settings(max_examples=50, deadline=None)
@given(rules())
def test_integers_come_back(rule: LogRange) -> None:
    if rule.step < 1e-9:
        return  # levels that float64 cannot tell apart next to a large r_min
    integers = np.arange(rule.q_min, rule.q_max + 1)
    assert np.array_equal(rule.quantize(rule.dequantize(integers)), integers)


@settings(max_examples=50, deadline=None)
@given(rules(), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_the_error_is_within_its_bound(rule: LogRange, shares: list[float]) -> None:
    r = np.clip(rule.r_min + np.array(shares) * (rule.r_max - rule.r_min), rule.r_min, rule.r_max)
    error = np.abs(rule.dequantize(rule.quantize(r)) - r)
    rounding = 1e-12 * (rule.r_max + rule.epsilon)
    assert np.all(error <= rule.error_bound(r) + rounding)


def test_the_bound_is_reached_half_way_between_two_levels() -> None:
    below = RULE.dequantize(100)
    r = (below + RULE.epsilon) * math.exp(RULE.step / 2) * (1 - 1e-9) - RULE.epsilon
    assert RULE.quantize(r) == 100
    shrunk = abs(float(below) - r)
    assert shrunk == pytest.approx((1 - math.exp(-RULE.step / 2)) * (r + RULE.epsilon), rel=1e-6)
    r = (below + RULE.epsilon) * math.exp(-RULE.step / 2) * (1 + 1e-9) - RULE.epsilon
    assert abs(float(below) - r) == pytest.approx(float(RULE.error_bound(r)), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(rules(), st.lists(st.floats(0.0, 2e6), min_size=2, max_size=20))
def test_order_is_kept_and_ends_hold(rule: LogRange, values: list[float]) -> None:
    integers = rule.quantize(np.sort(values))
    assert np.all(np.diff(integers) >= 0)
    assert rule.q_min <= integers.min() <= integers.max() <= rule.q_max
    assert rule.dequantize(rule.q_min) == rule.r_min
    assert rule.dequantize(rule.q_max) == rule.r_max


def test_zero_and_signs_come_back() -> None:
    values = np.array([-1.0, -0.25, 0.0, 0.25, 1.0])
    integers, signs = quantize_signed(RULE, values)
    again = dequantize_signed(RULE, integers, signs)
    assert signs.tolist() == [-1, -1, 0, 1, 1]
    assert again[2] == 0
    assert np.array_equal(again, -again[::-1])
    assert np.allclose(again, values, atol=0.01)


@pytest.mark.parametrize(
    ("r_min", "r_max", "q_min", "q_max", "epsilon"),
    [
        (1.0, 1.0, 0, 255, 0.1),
        (-1.0, 1.0, 0, 255, 0.1),
        (0.0, 1.0, 0, 255, 0.0),  # the logarithm of zero
        (0.5, 1.0, 0, 255, -0.1),
        (0.0, 1.0, 7, 7, 0.1),
        (1e6, 1e6 + 1e-10, 0, 1, 1e-6),
    ],
)
def test_what_is_no_range_is_refused(
    r_min: float, r_max: float, q_min: int, q_max: int, epsilon: float
) -> None:
    with pytest.raises(ValueError, match="range"):
        LogRange(r_min, r_max, q_min, q_max, epsilon)
