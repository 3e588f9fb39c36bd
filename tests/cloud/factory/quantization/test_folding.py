"""Batch normalization folded into what stands before it: the same function, with fewer layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Constraint, Parts, Scalable
from fleet_cloud.factory.network import Network, array_of, weights_of
from fleet_cloud.factory.quantization.folding import fold_batch_norm
from tests.cloud.factory.quantization.nets import make_parts, shake_norms

Array = NDArray[Any]
layers = keras.layers


@dataclass(frozen=True)
class Shared:
    """All weights are one: nothing that scaling by channel would keep."""

    kind: ClassVar[str] = "test-shared"
    value: Array
    shape: tuple[int, ...]

    def split(self) -> Parts:
        return Parts((self.value,))

    def compose(self, trained: Sequence[Any], _held: Sequence[Any]) -> Any:
        return keras.ops.broadcast_to(trained[0], self.shape)

    def settle(self, parts: Parts) -> "Shared":
        return Shared(parts.trained[0], self.shape)


@dataclass(frozen=True)
class Masked:
    kind: ClassVar[str] = "test-masked"
    weight: Array
    mask: Array

    def split(self) -> Parts:
        return Parts((self.weight,), (self.mask,))

    def compose(self, trained: Sequence[Any], held: Sequence[Any]) -> Any:
        return trained[0] * held[0]

    def settle(self, parts: Parts) -> "Masked":
        return Masked(parts.trained[0], parts.held[0])

    def scale(self, factor: Array) -> "Masked":
        return Masked((self.weight * factor).astype(np.float32), self.mask)


def samples(shape: Sequence[int], count: int = 6) -> Array:
    return np.random.default_rng(3).normal(size=(count, *shape)).astype(np.float32)


def run(model: Any, x: Array) -> Array:
    return array_of(model(x, training=False))


def norms(model: Any) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def test_the_folded_network_computes_the_same_with_the_same_names() -> None:
    model = make_parts()
    folded = fold_batch_norm(Network(model)).model
    x = samples(model.input.shape[1:])
    np.testing.assert_allclose(run(folded, x), run(model, x), atol=1e-5)
    names = [layer.name for layer in model.layers if not layer.name.endswith("_norm")]
    assert [layer.name for layer in folded.layers] == names
    assert folded.get_layer("stem").use_bias
    assert not model.get_layer("stem").use_bias, "the given model is as it was"


LINEAR: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "conv": ((6, 6, 4), lambda: layers.Conv2D(6, 3)),
    "grouped": ((6, 6, 4), lambda: layers.Conv2D(6, 3, groups=2, use_bias=False)),
    "dilated": ((6, 6, 4), lambda: layers.Conv2D(6, 3, dilation_rate=2)),
    "transposed": ((6, 6, 4), lambda: layers.Conv2DTranspose(6, 3, use_bias=False)),
    "depthwise": ((6, 6, 4), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)),
    "separable": ((6, 6, 4), lambda: layers.SeparableConv2D(6, 3, use_bias=False)),
    "signal": ((9, 4), lambda: layers.Conv1D(6, 3)),
    "signal-transposed": ((9, 4), lambda: layers.Conv1DTranspose(6, 3)),
    "signal-depthwise": ((9, 4), lambda: layers.DepthwiseConv1D(3)),
    "volume": ((4, 4, 4, 2), lambda: layers.Conv3D(3, 2)),
    "dense": ((7,), lambda: layers.Dense(6, use_bias=False)),
    "dense-rows": ((3, 7), lambda: layers.Dense(6)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_every_linear_layer(name: str) -> None:
    shape, make = LINEAR[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.BatchNormalization()(make()(inputs)))
    shake_norms(model)
    folded = fold_batch_norm(Network(model)).model
    assert not norms(folded)
    np.testing.assert_allclose(run(folded, samples(shape)), run(model, samples(shape)), atol=1e-5)


def test_what_has_no_linear_layer_of_its_own_before_it_stays() -> None:
    inputs = keras.Input((6, 6, 3))
    x = layers.BatchNormalization(name="first")(inputs)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    x = layers.BatchNormalization(name="after_relu")(x)
    x = layers.Conv2D(4, 3)(x)
    other = layers.BatchNormalization(name="shared")(x)  # the convolution's output is needed elsewhere
    x = layers.Conv2D(4, 1)(layers.Add()([x, other]))
    x = layers.BatchNormalization(name="rows", axis=1)(x)
    model = keras.Model(inputs, x)
    shake_norms(model)
    folded = fold_batch_norm(Network(model))
    assert norms(folded.model) == ["first", "after_relu", "shared", "rows"]
    assert folded.model is model


def test_an_output_of_the_model_is_not_changed() -> None:
    inputs = keras.Input((4,))
    x = layers.Dense(3)(inputs)
    model = keras.Model(inputs, [x, layers.BatchNormalization()(x)])
    assert fold_batch_norm(Network(model)).model is model


def constrained(constraint: Constraint, path: str = "stem/kernel") -> Network:
    return Network(make_parts()).constrain({path: constraint})


def test_zeros_stay_zeros_and_the_constraint_follows_the_weights() -> None:
    kernel = array_of(weights_of(make_parts())["stem/kernel"])
    mask = (np.abs(kernel) > np.median(np.abs(kernel))).astype(np.float32)
    network = constrained(Masked(kernel, mask))
    folded = fold_batch_norm(network)
    after = array_of(weights_of(folded.model)["stem/kernel"])
    assert np.array_equal(after != 0, mask != 0)
    kept = folded.constraints["stem/kernel"]
    assert isinstance(kept, Scalable)
    assert isinstance(kept, Masked)
    np.testing.assert_allclose(kept.weight * kept.mask, after, rtol=1e-6)
    x = samples(network.model.input.shape[1:])
    np.testing.assert_allclose(run(folded.model, x), run(network.model, x), atol=1e-5)


def test_a_constraint_that_scaling_breaks_is_refused_with_the_reason() -> None:
    network = constrained(Shared(np.float32(0.1) * np.ones(()), (3, 3, 3, 8)))
    with pytest.raises(BuildError, match=r"stem/kernel is constrained \(test-shared\)") as caught:
        fold_batch_norm(network)
    assert caught.value.code == "build.constraint"
    elsewhere = constrained(Shared(np.ones(()), (4,)), "left/bias")
    assert not norms(fold_batch_norm(elsewhere).model), "what is not folded may be constrained"


def normed(*variances: float) -> Network:
    """A convolution of three channels before as many normalizations, of factors 1, -6 and 0 at variance 1."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="conv")(inputs)
    for number, variance in enumerate(variances):
        norm = layers.BatchNormalization(name=f"norm{number}", epsilon=0.0)
        x = norm(x)
        norm.gamma.assign([1.0, -6.0, 0.0])
        norm.moving_variance.assign([variance] * 3)
    return Network(keras.Model(inputs, x))


def test_steps_shrink_with_a_kernel_but_never_grow() -> None:
    sizes = fold_batch_norm(normed(16.0)).step_sizes["conv/kernel"]
    np.testing.assert_allclose(sizes, np.reshape([0.25, 1.0, 1.0], (1, 1, 1, 3)))
    twice = fold_batch_norm(fold_batch_norm(normed(16.0, 4.0))).step_sizes["conv/kernel"]
    np.testing.assert_allclose(twice, np.reshape([0.125, 1.0, 1.0], (1, 1, 1, 3)))


def test_step_sizes_have_the_paths_of_the_folded_network() -> None:
    """A `Sequential` names its weights after itself, what is made of it does not."""
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(3, 1, name="conv"), layers.BatchNormalization()]
    )
    folded = fold_batch_norm(Network(model))
    assert folded.step_sizes.keys() <= weights_of(folded.model).keys()


def test_step_sizes_broadcast_to_kernels_of_every_layout() -> None:
    inputs = keras.Input((4, 4, 3))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(5, 3, name="transposed")(x)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(7, 3, name="separable")(x)
    model = keras.Model(inputs, layers.BatchNormalization()(x))
    shake_norms(model)
    folded = fold_batch_norm(Network(model))
    found = {path: size.shape for path, size in folded.step_sizes.items()}
    assert found == {
        "depthwise/kernel": (1, 1, 3, 2),
        "transposed/kernel": (1, 1, 5, 1),
        "separable/pointwise_kernel": (1, 1, 1, 7),
    }
