"""TFLite's scheme: zero is exact, the zero point an integer, and errors are bounded."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fleet_cloud.factory.quantization.affine import fit_range, fit_weights

FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)


def test_an_example_by_hand() -> None:
    scheme = fit_range(-1.0, 1.0)
    assert float(scheme.scale) == 2 / 255
    assert scheme.zero_point == 0  # -128 + 127.5 = -0.5, half to even
    assert scheme.quantize(np.array([0.0, 2 / 255, 1.0, 9.0])).tolist() == [0, 1, 127, 127]
    assert fit_range(0.0, 6.0).zero_point == -128
    assert fit_range(-6.0, 0.0).zero_point == 127


def test_a_range_is_widened_to_contain_zero() -> None:
    assert fit_range(2.0, 6.0) == fit_range(0.0, 6.0)
    assert fit_range(-6.0, -2.0) == fit_range(-6.0, 0.0)


@given(low=FLOATS, high=FLOATS, share=st.floats(0, 1))
def test_zero_is_exact_and_no_error_is_larger_than_half_a_step(low: float, high: float, share: float) -> None:
    low, high = min(low, high), max(low, high)
    scheme = fit_range(low, high)
    assert scheme.q_min <= scheme.zero_point <= scheme.q_max
    assert scheme.dequantize(scheme.quantize(np.array(0.0))) == 0.0
    low, high = min(low, 0.0), max(high, 0.0)
    real = np.array([low, high, np.clip(low + share * (high - low), low, high)])
    error = np.abs(scheme.dequantize(scheme.quantize(real)) - real).max()
    assert error <= float(scheme.scale) / 2 * (1 + 1e-9)


@given(low=FLOATS, high=FLOATS)
def test_reading_back_and_quantizing_again_changes_nothing(low: float, high: float) -> None:
    scheme = fit_range(min(low, high), max(low, high))
    integers = np.arange(scheme.q_min, scheme.q_max + 1)
    assert scheme.quantize(scheme.dequantize(integers)).tolist() == integers.tolist()


def test_nothing_but_zeros_has_a_scheme_too() -> None:
    assert fit_range(0.0, 0.0).dequantize(fit_range(0.0, 0.0).quantize(np.zeros(3))).tolist() == [0, 0, 0]
    weights = fit_weights(np.zeros((3, 2)), (1,))
    assert weights.quantize(np.zeros((3, 2))).tolist() == np.zeros((3, 2)).tolist()


@pytest.mark.parametrize("ends", [(1.0, 0.0), (np.nan, 1.0), (0.0, np.inf)])
def test_what_is_no_range_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no range"):
        fit_range(*ends)


KERNELS = hnp.arrays(np.float32, (3, 3, 2, 4), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("channels", [(), (3,), (2, 3)])
@given(kernel=KERNELS)
def test_weights_are_symmetric_and_the_largest_of_a_channel_is_exact(
    channels: tuple[int, ...], kernel: NDArray[Any]
) -> None:
    scheme = fit_weights(kernel, channels)
    integers = scheme.quantize(kernel)
    assert scheme.zero_point == 0
    assert np.abs(integers).max() <= 127
    assert scheme.scale.shape == tuple(
        size if axis in channels else 1 for axis, size in enumerate(kernel.shape)
    )
    assert np.array_equal(scheme.quantize(-kernel), -integers)
    error = np.abs(scheme.dequantize(integers) - kernel)
    assert (error <= scheme.scale / 2 * (1 + 1e-9)).all()
    largest = np.broadcast_to(scheme.scale * 127, kernel.shape) == np.abs(kernel)
    assert (error[largest & (kernel != 0)] <= 1e-6 * np.abs(kernel[largest & (kernel != 0)])).all()
