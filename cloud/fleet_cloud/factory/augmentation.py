"""Training samples changed at random: moved, turned, mirrored, brighter or darker, noisy.

All movements are one transformation of the image, so that it is read once. The random numbers follow from a
seed, which whoever trains sets anew: so a training can be repeated. Labels stay as they are: what would
change them (a mirrored letter) must not be asked for.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.recipe.dataset import Augment
from fleet_shared.manifest import Preprocessing
from fleet_shared.pixels import to_real

Array = NDArray[Any]
Reals = NDArray[np.float32]


@dataclass(frozen=True)
class Movement:
    """Each of so many images. ``angle``: in radians; ``zoom``: larger than 1 is nearer; ``mirror``: -1 or 1,
    from left to right and from top to bottom; ``down``, ``right``: where the image is read, in pixels."""

    angle: Any
    zoom: Any
    mirror: tuple[Any, Any]
    down: Any
    right: Any


@dataclass(frozen=True)
class Range:
    """The smallest and the largest real value, of each channel."""

    low: Reals
    high: Reals


class Augmentation(keras.Layer):  # type: ignore[misc]
    """Called with a batch of real inputs (n, height, width, channels), gives one of the same shape."""

    def __init__(self, how: Augment, values: Range, seed: int) -> None:
        super().__init__(name="augmentation", trainable=False)
        self._how, self._values = how, values
        self._span = values.high - values.low
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        """Return ``x`` changed; without ``training`` as it is."""
        how = self._how
        if not training:
            return x
        if how.flip != "none" or any((how.shift, how.crop_padding, how.rotate_degrees, how.zoom)):
            x = self._move(x)
        return self._recolour(x) if any((how.brightness, how.contrast, how.noise)) else x

    def _move(self, x: Any) -> Any:
        how, ops, size, count = self._how, keras.ops, x.shape[1:3], (keras.ops.shape(x)[0],)
        moves = [self._draw(how.shift * length, count) + self._draw_pixels(count) for length in size]
        transforms = make_transforms(
            Movement(
                angle=self._draw(np.radians(how.rotate_degrees), count),
                zoom=ops.exp(self._draw(np.log1p(how.zoom), count)),
                mirror=(self._draw_signs("horizontal", count), self._draw_signs("vertical", count)),
                down=moves[0],
                right=moves[1],
            ),
            size,
        )
        return ops.image.affine_transform(
            x, transforms, interpolation="bilinear", fill_mode="nearest", data_format="channels_last"
        )

    def _recolour(self, x: Any) -> Any:
        how, ops, each = self._how, keras.ops, (keras.ops.shape(x)[0], 1, 1, 1)
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = mean + (x - mean) * (1 + self._draw(how.contrast, each))
        x = x + self._draw(how.brightness, each) * self._span
        if how.noise:
            x = x + keras.random.normal(ops.shape(x), seed=self.seed_generator) * (how.noise * self._span)
        return ops.clip(x, self._values.low, self._values.high)

    def _draw(self, limit: float, shape: tuple[Any, ...]) -> Any:
        return keras.random.uniform(shape, -1.0, 1.0, seed=self.seed_generator) * float(limit)

    def _draw_pixels(self, count: tuple[Any, ...]) -> Any:
        limit = self._how.crop_padding
        pixels = keras.random.randint(count, -limit, limit + 1, seed=self.seed_generator)
        return keras.ops.cast(pixels, "float32")

    def _draw_signs(self, way: str, count: tuple[Any, ...]) -> Any:
        signs = keras.ops.where(self._draw(1.0, count) < 0, -1.0, 1.0)
        return signs if self._how.flip in {way, "both"} else keras.ops.ones_like(signs)


def make_augmentation(
    how: Augment | None, x: Array, preprocessing: Preprocessing, seed: int
) -> Augmentation | None:
    """Return what changes samples like the raw ``x``; none where nothing is asked for. Raises `RecipeError`
    (``recipe.augment``) for samples that are no images."""
    if how is None or how == Augment():
        return None
    if x.ndim != 4:
        raise RecipeError(
            f"dataset.augment is for images, and the samples are {x.shape[1:]}",
            hint="leave it out",
            code="recipe.augment",
        )
    ends = np.stack([np.full(x.shape[1:], end, dtype=x.dtype) for end in (x.min(), x.max())])
    low, high = to_real(ends, preprocessing)[:, 0, 0]
    return Augmentation(how, Range(np.minimum(low, high), np.maximum(low, high)), seed)


def make_transforms(how: Movement, size: tuple[int, int]) -> Any:
    """Return (n, 8): the projective transformations from places in the result to places in the image, as
    `keras.ops.image.affine_transform` takes them. ``size``: height and width."""
    ops = keras.ops
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    cos, sin = ops.cos(how.angle) / how.zoom, ops.sin(how.angle) / how.zoom
    a, b = cos * how.mirror[0], -sin * how.mirror[1]
    c, d = sin * how.mirror[0], cos * how.mirror[1]
    left, top = x - a * x - b * y + how.right, y - c * x - d * y + how.down
    zero = ops.zeros_like(a)
    return ops.stack([a, b, left, c, d, top, zero, zero], axis=1)
