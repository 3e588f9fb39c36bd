"""From decoded samples to the real-valued input of a model: the one place that computes it.

The factory (training, evaluation, golden vectors) and the worker on a device both call this, so
that a model sees on a device what it was trained on. It needs numpy and Pillow, which both sides
have for reasons of their own; nothing else in this package imports it.
"""

import struct
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleet_shared.manifest import Fit, Layout, Preprocessing, Resize

Array = NDArray[Any]

FILTERS: Final = MappingProxyType(
    {
        Resize.NEAREST: Image.Resampling.NEAREST,
        Resize.BILINEAR: Image.Resampling.BILINEAR,
        Resize.BICUBIC: Image.Resampling.BICUBIC,
        Resize.AREA: Image.Resampling.BOX,
    }
)

DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for images that are damaged, or too large; for PNG in many ways."""


def fit_image(image: Image.Image, preprocessing: Preprocessing, shape: tuple[int, ...]) -> Array:
    """Return ``image`` as uint8 in the size, colours and layout of an input of ``shape``.

    ``shape`` is the tensor's, of four dimensions, the batch first; the result has the other three.
    A single channel is grey, whatever the colour says.
    """
    rules = preprocessing.rules
    planar = rules.layout is Layout.NCHW
    height, width, channels = (shape[2], shape[3], shape[1]) if planar else shape[1:4]
    mode = "L" if preprocessing.colour == "grey" or channels == 1 else "RGB"
    fitted = _resize(image.convert(mode), preprocessing, (width, height))
    pixels = np.asarray(fitted).reshape((height, width, -1))
    if preprocessing.colour == "bgr":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if planar else pixels)


def to_real(samples: Array, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return samples as the model's real-valued input: (value * scale + offset - mean) / std.

    Any number of leading dimensions; the channels are the last one, or with planes (NCHW) the third
    from the end.
    """
    rules = preprocessing.rules
    real: NDArray[np.float32] = samples.astype(np.float32)
    real *= np.float32(preprocessing.scale)
    real += np.float32(preprocessing.offset)
    if rules.mean:
        real -= _per_channel(rules.mean, rules.layout)
    if rules.std:
        real /= _per_channel(rules.std, rules.layout)
    return real


def _per_channel(values: tuple[float, ...], layout: Layout) -> NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    return array.reshape((-1, 1, 1)) if layout is Layout.NCHW else array


def _resize(image: Image.Image, preprocessing: Preprocessing, size: tuple[int, int]) -> Image.Image:
    """``size``: width and height. All of it is one resampling: a crop is read through a box."""
    rules = preprocessing.rules
    method = FILTERS[rules.resize]
    if rules.fit is Fit.CROP:
        return image.resize(size, method, box=find_crop(image.size, size))
    if rules.fit is Fit.LETTERBOX:
        left, top, width, height = find_letterbox(image.size, size)
        canvas = Image.new(image.mode, size, rules.pad if image.mode == "L" else (rules.pad,) * 3)
        canvas.paste(image.resize((width, height), method), (left, top))
        return canvas
    return image.resize(size, method)


def find_crop(image: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box (left, top, right, bottom) with the aspect ratio of ``target``.
    Sizes are width and height."""
    scale = min(image[0] / target[0], image[1] / target[1])
    width, height = target[0] * scale, target[1] * scale
    left, top = max(0.0, (image[0] - width) / 2), max(0.0, (image[1] - height) / 2)
    return left, top, min(left + width, image[0]), min(top + height, image[1])  # rounding may exceed


def find_letterbox(image: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the whole image inside ``target``; at least one pixel."""
    scale = min(target[0] / image[0], target[1] / image[1])
    width = min(target[0], max(1, round(image[0] * scale)))
    height = min(target[1], max(1, round(image[1] * scale)))
    return (target[0] - width) // 2, (target[1] - height) // 2, width, height
