"""From decoded samples to real inputs, against Pillow itself, formulas by hand, and what was before."""

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fleet_shared.manifest import Fit, ImageRules, Layout, Preprocessing, Resize
from fleet_shared.pixels import find_crop, find_letterbox, fit_image, to_real

NOISE = np.random.default_rng(7).integers(0, 256, (12, 20, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)
SHAPE = (1, 6, 8, 3)
RECORDED = "39ca90e5b0df125cad26c008c9105ce5bcfa914bb1cc0fba70938b5b50ed7a62"


def rule(colour: str | None = "rgb", scale: float = 1.0, offset: float = 0.0, **rules: Any) -> Preprocessing:
    return Preprocessing(colour=colour, scale=scale, offset=offset, image=ImageRules(**rules))


def test_without_rules_an_image_is_what_pillow_s_default_makes_of_it() -> None:
    """What the first release computed, in training and on devices."""
    plain = Preprocessing(colour="rgb", scale=1 / 255)
    assert np.array_equal(fit_image(PICTURE, plain, SHAPE), np.asarray(PICTURE.convert("RGB").resize((8, 6))))
    grey = fit_image(PICTURE, Preprocessing(colour="grey"), (1, 6, 8, 1))
    assert np.array_equal(grey[..., 0], np.asarray(PICTURE.convert("L").resize((8, 6))))
    assert plain.rules == ImageRules()
    assert msgspec.json.encode(plain) == b'{"colour":"rgb","scale":0.00392156862745098,"offset":0.0}'


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Resize.NEAREST, [[30, 50]]),  # the pixel right of the middle of each pair
        (Resize.AREA, [[15, 45]]),  # the mean of each pair
        # A triangle 2 pixels wide to each side of 1 and of 3: weights 1, 3, 3, 1 (cut at the edge: 3, 3, 1).
        (Resize.BILINEAR, [[(3 * 0 + 3 * 30 + 40) / 7, (30 + 3 * 40 + 3 * 50) / 7]]),
    ],
)
def test_methods_by_hand(method: Resize, expected: list[list[float]]) -> None:
    row = Image.fromarray(np.array([[0, 30, 40, 50]], np.uint8))
    found = fit_image(row, rule("grey", resize=method), (1, 1, 2, 1))[..., 0]
    assert np.abs(found - np.asarray(expected)).max() <= 0.5


def test_area_is_the_mean_of_blocks() -> None:
    blocks = NOISE.reshape(6, 2, 10, 2, 3).mean(axis=(1, 3))
    found = fit_image(PICTURE, rule(resize=Resize.AREA), (1, 6, 10, 3))
    assert np.abs(found - blocks).max() <= 1.0  # Pillow rounds after each of two passes


@pytest.mark.parametrize("method", [Resize.NEAREST, Resize.BILINEAR, Resize.BICUBIC, Resize.AREA])
def test_a_crop_is_the_centre_and_a_letterbox_is_all_of_it(method: Resize) -> None:
    filters = {
        "nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX,
    }  # fmt: skip
    small = fit_image(PICTURE, rule(resize=method, fit=Fit.CROP), (1, 6, 6, 3))
    centre = ImageOps.fit(PICTURE, (6, 6), filters[method.value])
    assert np.array_equal(small, np.asarray(centre))
    boxed = fit_image(PICTURE, rule(resize=method, fit=Fit.LETTERBOX, pad=114), (1, 10, 10, 3))
    inner = np.asarray(PICTURE.resize((10, 6), filters[method.value]))
    assert np.array_equal(boxed[2:8], inner)
    assert (boxed[:2] == 114).all()
    assert (boxed[8:] == 114).all()


@pytest.mark.parametrize(
    ("image", "target", "crop", "letterbox"),
    [
        ((20, 12), (6, 6), (4, 0, 16, 12), (0, 1, 6, 4)),
        ((12, 20), (6, 6), (0, 4, 12, 16), (1, 0, 4, 6)),
        ((640, 480), (96, 96), (80, 0, 560, 480), (0, 12, 96, 72)),
        ((10, 10), (4, 2), (0, 2.5, 10, 7.5), (1, 0, 2, 2)),
        ((1000, 1), (4, 4), (499.5, 0, 500.5, 1), (0, 1, 4, 1)),
    ],
)
def test_where_crops_and_letterboxes_lie(
    image: tuple[int, int], target: tuple[int, int], crop: tuple[float, ...], letterbox: tuple[int, ...]
) -> None:
    assert find_crop(image, target) == crop
    assert find_letterbox(image, target) == letterbox


sides = st.integers(1, 5000)


@given(st.tuples(sides, sides), st.tuples(st.integers(1, 512), st.integers(1, 512)))
def test_boxes_stay_inside(image: tuple[int, int], target: tuple[int, int]) -> None:
    left, top, right, bottom = find_crop(image, target)
    assert 0 <= left < right <= image[0]
    assert 0 <= top < bottom <= image[1]
    x, y, width, height = find_letterbox(image, target)
    assert x >= 0
    assert y >= 0
    assert 1 <= width <= target[0] - x
    assert 1 <= height <= target[1] - y
    assert width == target[0] or height == target[1]


def test_colours_and_layouts() -> None:
    red = Image.new("RGB", (2, 2), (200, 10, 5))
    assert fit_image(red, rule("rgb"), (1, 1, 1, 3)).tolist() == [[[200, 10, 5]]]
    assert fit_image(red, rule("bgr"), (1, 1, 1, 3)).tolist() == [[[5, 10, 200]]]
    assert fit_image(red, rule("grey"), (1, 1, 1, 1)).tolist() == [[[66]]]  # 0.299 R + 0.587 G + 0.114 B
    assert fit_image(red, rule("rgb"), (1, 1, 1, 1)).tolist() == [[[66]]]
    planes = fit_image(PICTURE, rule(layout=Layout.NCHW), (1, 3, 6, 8))
    assert np.array_equal(planes, fit_image(PICTURE, rule(), SHAPE).transpose(2, 0, 1))
    assert planes.flags["C_CONTIGUOUS"]


def test_arithmetic_by_hand() -> None:
    """As torchvision writes it: (value / 255 - mean) / std."""
    pixels = np.array([[[[0, 128, 255]]], [[[255, 0, 51]]]], np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = [
        [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225],
    ]
    found = to_real(pixels, rule(scale=1 / 255, mean=mean, std=std))
    assert np.allclose(found.reshape(2, 3), expected, rtol=0, atol=1e-6)
    planes = to_real(
        pixels.transpose(0, 3, 1, 2), rule(scale=1 / 255, mean=mean, std=std, layout=Layout.NCHW)
    )
    assert np.array_equal(planes, found.transpose(0, 3, 1, 2))
    assert to_real(np.array([[1, 3]]), rule(None, mean=(1.0,), std=(2.0,))).tolist() == [[0.0, 1.0]]


def test_plain_arithmetic_is_bit_for_bit_what_it_was() -> None:
    before = NOISE.astype(np.float32) * np.float32(1 / 255) + np.float32(-0.5)
    assert np.array_equal(to_real(NOISE, Preprocessing(scale=1 / 255, offset=-0.5)), before)
    untouched = np.ones(4, np.float32)
    to_real(untouched, Preprocessing(scale=3.0))
    assert (untouched == 1).all()


def test_pixels_are_those_of_the_release_that_wrote_this() -> None:
    """A newer Pillow that computes others would run old models on other inputs than they were made for."""
    picture = Image.fromarray(np.random.default_rng(7).integers(0, 256, (120, 200, 3), dtype=np.uint8))
    seen = hashlib.sha256()
    for method in (Resize.NEAREST, Resize.BILINEAR, Resize.BICUBIC, Resize.AREA):
        for fit in (Fit.STRETCH, Fit.CROP, Fit.LETTERBOX):
            seen.update(fit_image(picture, rule("bgr", resize=method, fit=fit), (1, 48, 64, 3)).tobytes())
            seen.update(fit_image(picture, rule("grey", resize=method, fit=fit), (1, 48, 64, 1)).tobytes())
    assert seen.hexdigest() == RECORDED
