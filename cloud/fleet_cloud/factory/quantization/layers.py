"""Keras layers that round as int8 does, for training and for the converter.

Each linear layer keeps the name and the weights of the layer in whose place it stands, so that constraints
find their weight. `Rounding` holds the range of an activation.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

import keras
import tensorflow as tf

from fleet_cloud.factory.quantization.rounding import (
    LEVELS,
    round_activations,
    round_averages,
    round_weights,
    weight_steps,
    widen,
)

Tensor = Any

PACKAGE: Final = "fleet"
MOMENTUM: Final = 0.99
"""Of the moving average of ranges; calibration makes its first value."""

_register = keras.saving.register_keras_serializable(PACKAGE)


@_register
class Rounding(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Activations as int8 holds them. ``fixed``: the range, where TFLite prescribes one. ``active``: whether
    it rounds at all."""

    def __init__(
        self, fixed: tuple[float, float] | None = None, active: bool = True, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.active = active

    @property
    def ranged(self) -> Any:
        """The tensor whose smallest and largest value the range follows."""
        return self.input

    @property
    def step(self) -> float:
        """What one code is."""
        low, high = widen(*(keras.ops.convert_to_tensor(one) for one in (self.low, self.high)))
        return float(high - low) / (LEVELS - 1)

    def build(self, _shape: Any) -> None:
        low, high = self.fixed or (0.0, 0.0)
        self.low = self._add("low", low)
        self.high = self._add("high", high)

    def _add(self, name: str, value: float) -> Any:
        start = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=start, trainable=False, name=name)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        self._follow(x, training)
        low, high = (keras.ops.convert_to_tensor(one) for one in (self.low, self.high))
        return round_activations(x, low, high) if self.active else x

    def _follow(self, ranged: Tensor, training: bool | None) -> None:
        if training and self.active and self.fixed is None:
            self.low.assign(_move(self.low, tf.reduce_min(ranged)))
            self.high.assign(_move(self.high, tf.reduce_max(ranged)))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fixed": self.fixed, "active": self.active}


@_register
class RoundingAgain(Rounding):
    """Takes what an average made of rounded activations, and what those were before they were rounded: rounds
    the first to the range of the second, which moves just as theirs does. The file needs nothing for it.
    ``half_up``: see `round_averages`."""

    def __init__(self, half_up: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.half_up = half_up

    @property
    def ranged(self) -> Any:
        return self.input[1]

    def call(self, both: Sequence[Tensor], training: bool | None = None) -> Tensor:
        x, ranged = both
        self._follow(ranged, training)
        low, high = (keras.ops.convert_to_tensor(one) for one in (self.low, self.high))
        return round_averages(x, low, high, self.half_up) if self.active else x

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "half_up": self.half_up}


def _move(average: Any, value: Tensor) -> Tensor:
    old = keras.ops.convert_to_tensor(average)
    return old + (1 - MOMENTUM) * (tf.stop_gradient(value) - old)


class Rounded(keras.layers.Layer):  # type: ignore[misc]
    """What the linear layers share. ``channels``: the axes of the kernel that are output channels, counted
    from its end; each has a scale. ``active``: whether weights are rounded."""

    channels: ClassVar[tuple[int, ...]] = (-1,)

    def __init__(self, *settings: Any, active: bool = True, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.active = active

    @property
    def scaled(self) -> Sequence[int]:
        """The axes of the kernel for each index of which there is a scale; none: one for all."""
        return [len(self.kernel.shape) + axis for axis in self.channels]

    @property
    def steps(self) -> Tensor:
        """What one code of the kernel is, in a shape that broadcasts to it."""
        return weight_steps(keras.ops.convert_to_tensor(self.kernel), self.scaled)

    @property
    def rounded(self) -> Tensor:
        """The kernel as int8 holds it."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        return round_weights(kernel, self.scaled) if self.active else kernel

    def call(self, inputs: Tensor) -> Tensor:
        outputs = self.multiply(inputs)
        if self.use_bias:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def multiply(self, inputs: Tensor) -> Tensor:
        """Return the outputs without bias and activation."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "active": self.active}


@_register
class RoundedConv1D(Rounded, keras.layers.Conv1D):  # type: ignore[misc]
    def multiply(self, inputs: Tensor) -> Tensor:
        return self.convolution_op(inputs, self.rounded)


@_register
class RoundedConv2D(Rounded, keras.layers.Conv2D):  # type: ignore[misc]
    def multiply(self, inputs: Tensor) -> Tensor:
        return self.convolution_op(inputs, self.rounded)


@_register
class RoundedDepthwiseConv2D(Rounded, keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """Its kernel is (height, width, in, multiplier): the last two are output channels together."""

    channels = (-2, -1)

    def multiply(self, inputs: Tensor) -> Tensor:
        return keras.ops.depthwise_conv(
            inputs, self.rounded, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )


@_register
class RoundedConv2DTranspose(Rounded, keras.layers.Conv2DTranspose):  # type: ignore[misc]
    """Its kernel is (height, width, out, in)."""

    channels = (-2,)

    def multiply(self, inputs: Tensor) -> Tensor:
        return keras.ops.conv_transpose(
            inputs, self.rounded, strides=list(self.strides), padding=self.padding,
            output_padding=self.output_padding, dilation_rate=self.dilation_rate,
        )  # fmt: skip


@_register
class RoundedDense(Rounded, keras.layers.Dense):  # type: ignore[misc]
    """``per_channel``: one scale for each output, else one for all."""

    def __init__(self, units: int, per_channel: bool = True, **settings: Any) -> None:
        super().__init__(units, **settings)
        self.per_channel = per_channel

    @property
    def scaled(self) -> Sequence[int]:
        return super().scaled if self.per_channel else ()

    def multiply(self, inputs: Tensor) -> Tensor:
        return keras.ops.matmul(inputs, self.rounded)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "per_channel": self.per_channel}


ROUNDED: Final[Mapping[type[Any], type[Rounded]]] = MappingProxyType(
    {
        keras.layers.Conv1D: RoundedConv1D,
        keras.layers.Conv2D: RoundedConv2D,
        keras.layers.DepthwiseConv2D: RoundedDepthwiseConv2D,
        keras.layers.Conv2DTranspose: RoundedConv2DTranspose,
        keras.layers.Dense: RoundedDense,
    }
)
"""What stands in the place of which layer."""
