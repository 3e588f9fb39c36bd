"""Training samples changed at random: moved, turned, mirrored, brighter or darker, noisy.

All movements are one transformation of the image, so that it is read once. The random numbers are NumPy's,
from a seed: the same on every machine. Labels stay as they are: what would change them (a mirrored letter)
must not be asked for.
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
class Range:
    """The smallest and the largest real value, of each channel."""

    low: Reals
    high: Reals


class Augmentation:
    """Called with a batch of real inputs (n, height, width, channels), returns one of the same shape."""

    def __init__(self, how: Augment, values: Range, seed: int) -> None:
        self._how, self._values, self._seed = how, values, seed
        self.restart()

    def restart(self) -> None:
        """Begin again with the same random numbers: each training does."""
        self._random = np.random.default_rng((self._seed, 0xA06))

    def __call__(self, x: Any, *, training: bool = True) -> Any:
        """Return ``x`` changed; without ``training`` as it is."""
        if not training:
            return x
        moved = self._move(x) if self._moves() else x
        return self._recolour(moved) if self._recolours() else moved

    def _moves(self) -> bool:
        how = self._how
        return how.flip != "none" or any((how.shift, how.crop_padding, how.rotate_degrees, how.zoom))

    def _recolours(self) -> bool:
        return any((self._how.brightness, self._how.contrast, self._how.noise))

    def _move(self, x: Any) -> Any:
        count, height, width = x.shape[:3]
        transforms = make_transforms(self._how, count, (height, width), self._random)
        return keras.ops.image.affine_transform(
            x, transforms, interpolation="bilinear", fill_mode="nearest", data_format="channels_last"
        )

    def _recolour(self, x: Any) -> Any:
        how, span = self._how, self._values.high - self._values.low
        each = (x.shape[0], 1, 1, 1)
        mean = keras.ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = mean + (x - mean) * (1 + self._draw(how.contrast, each))
        x = x + self._draw(how.brightness, each) * span
        if how.noise:
            x = x + self._random.standard_normal(tuple(x.shape), dtype=np.float32) * how.noise * span
        return keras.ops.clip(x, self._values.low, self._values.high)

    def _draw(self, limit: float, shape: tuple[int, ...]) -> Reals:
        return self._random.uniform(-limit, limit, shape).astype(np.float32)


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


def make_transforms(how: Augment, count: int, size: tuple[int, int], random: np.random.Generator) -> Reals:
    """Return (count, 8): the projective transformations from places in the result to places in the image,
    as `keras.ops.image.affine_transform` takes them. ``size``: height and width."""
    angle = np.radians(random.uniform(-1, 1, count) * how.rotate_degrees)
    zoom = np.power(1 + how.zoom, random.uniform(-1, 1, count))
    mirror = [_draw_signs(how.flip in {name, "both"}, count, random) for name in ("horizontal", "vertical")]
    moves = [
        random.uniform(-1, 1, count) * how.shift * length
        + random.integers(-how.crop_padding, how.crop_padding + 1, count)
        for length in size
    ]
    a = np.stack([np.cos(angle) * mirror[0], -np.sin(angle) * mirror[1]]) / zoom
    b = np.stack([np.sin(angle) * mirror[0], np.cos(angle) * mirror[1]]) / zoom
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    zero = np.zeros(count)
    left, top = x - a[0] * x - a[1] * y + moves[1], y - b[0] * x - b[1] * y + moves[0]
    return np.stack([a[0], a[1], left, b[0], b[1], top, zero, zero], axis=1).astype(np.float32)


def _draw_signs(wanted: bool, count: int, random: np.random.Generator) -> Array:
    signs = np.where(random.random(count) < 0.5, -1.0, 1.0)
    return signs if wanted else np.ones(count)
