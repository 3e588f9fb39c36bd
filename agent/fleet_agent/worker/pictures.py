"""Encoded images, and frames of a camera, as samples of a model's first input."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker.tensors import prepare
from fleet_shared.manifest import Preprocessing
from fleet_shared.pixels import DAMAGE, fit_image

IMAGE_DIMENSIONS: Final = 4


@dataclass(frozen=True)
class Limits:
    """What strangers may send: a few bytes can claim an image that fills the memory, and Pillow reads
    formats that start other programs."""

    formats: tuple[str, ...] = ("PNG", "JPEG", "BMP")
    pixels_max: int = 50_000_000  # 150 MB decoded


REQUEST_LIMITS: Final = Limits()
LARGE_PIXELS: Final = 2_000_000
_large: Final = threading.BoundedSemaphore(2)
"""So many images of more than `LARGE_PIXELS` are decoded at once, whoever sends them."""


def takes_images(info: TensorInfo) -> bool:
    return len(info.shape) == IMAGE_DIMENSIONS


def read_picture(
    content: bytes, preprocessing: Preprocessing, info: TensorInfo, name: str, limits: Limits | None = None
) -> Array:
    """Return an encoded image (whatever Pillow reads, within ``limits``) as one sample, before scaling.

    Raises `WorkerError` (``worker.image.damaged``). Where the input is no image, the pixels come as
    they are, for `prepare` to judge.
    """
    try:
        with Image.open(io.BytesIO(content), formats=limits.formats if limits else None) as image:
            if limits and image.width * image.height > limits.pixels_max:
                raise _damaged(f"{name} has {image.width} x {image.height} pixels, which are too many")
            with _room_for(image):
                if takes_images(info):
                    return fit_image(image, preprocessing, info.shape)
                return np.asarray(image.convert("L" if preprocessing.colour == "grey" else "RGB"))
    except UnidentifiedImageError as exc:
        raise _damaged(f"{name} is no image") from exc
    except Image.DecompressionBombError as exc:
        raise _damaged(f"{name} is too large: {exc}") from exc
    except DAMAGE as exc:
        raise _damaged(f"{name} cannot be read: {str(exc) or type(exc).__name__}") from exc


@contextmanager
def _room_for(image: Image.Image) -> Iterator[None]:
    """Hold what a large image needs of the memory while it is decoded."""
    if image.width * image.height <= LARGE_PIXELS:
        yield
        return
    with _large:
        yield


def prepare_pictures(contents: Sequence[bytes], preprocessing: Preprocessing, info: TensorInfo) -> Array:
    """Return encoded images as a batch of the model's input, preprocessed as the contract says.

    Raises `WorkerError`: ``worker.image.unfit`` when the model takes no images,
    ``worker.image.damaged`` for what is none.
    """
    if not takes_images(info):
        raise WorkerError(
            f"the model takes {list(info.shape)}, which is no image",
            hint="send the tensor itself",
            code="worker.image.unfit",
        )
    pixels = [
        read_picture(content, preprocessing, info, f"image {number}", REQUEST_LIMITS)
        for number, content in enumerate(contents)
    ]
    return prepare(np.stack(pixels), preprocessing, info)


def fit_frame(frame: Array, preprocessing: Preprocessing, info: TensorInfo) -> Array:
    """Return a frame of OpenCV (height, width, blue-green-red or grey) as one sample, before scaling."""
    pixels = frame[..., ::-1] if frame.ndim == 3 else frame
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if not takes_images(info):
        raise WorkerError(
            f"the model takes {list(info.shape)}, which is no image",
            hint="a camera needs a model of images",
            code="worker.source.shape",
        )
    return fit_image(image, preprocessing, info.shape)


def _damaged(message: str) -> WorkerError:
    return WorkerError(message, hint="send a PNG, JPEG or BMP file", code="worker.image.damaged")
