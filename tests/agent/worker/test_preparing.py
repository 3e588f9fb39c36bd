"""Preparing a batch for a model: quantized, whole, and alike for one sample and for many."""

import io
import struct
import threading
import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo
from fleet_agent.worker import pictures
from fleet_agent.worker.pictures import fit_frame, prepare_pictures
from fleet_agent.worker.tensors import dequantize, prepare, preprocess, quantize
from fleet_shared.manifest import Fit, ImageRules, Preprocessing, Quantization
from fleet_shared.pixels import fit_image
from tests.kit.damaged_png import DAMAGES, damage_png

INT8 = np.dtype(np.int8)
RGB = TensorInfo("x", INT8, (1, 6, 8, 3), Quantization(scale=1 / 255, zero_point=-128))
NOISE = np.random.default_rng(3).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
SCALED = Preprocessing(colour="rgb", scale=1 / 255)


@given(
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.floats(1e-4, 100),
    st.integers(-128, 127),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
)
def test_quantizing_errs_by_half_a_step_at_most_and_saturates(
    kind: type, scale: float, zero_point: int, values: list[float]
) -> None:
    limits = np.iinfo(kind)
    zero_point = max(zero_point, 0) if kind is np.uint8 else zero_point
    info = TensorInfo("x", np.dtype(kind), (1, len(values)), Quantization(scale=scale, zero_point=zero_point))
    real = np.asarray(values, np.float32)
    quantized = quantize(real, info)
    assert quantized.dtype == kind
    low, high = (limits.min - zero_point) * scale, (limits.max - zero_point) * scale
    error = np.abs(
        dequantize(quantized, info).astype(np.float64) - np.clip(real.astype(np.float64), low, high)
    )
    # float32 itself: a few units in the last place of the value and of what is clipped.
    assert (error <= scale / 2 + 4 * np.finfo(np.float32).eps * (np.abs(real) + abs(low) + abs(high))).all()
    assert (quantized[real > high + scale] == limits.max).all()
    assert (quantized[real < low - scale] == limits.min).all()


def test_a_uint8_image_becomes_int8_by_a_shift() -> None:
    found = prepare(NOISE, SCALED, RGB)
    assert found.dtype == INT8
    assert np.array_equal(found, (NOISE.astype(np.int16) - 128).astype(np.int8))


def test_a_batch_is_its_samples() -> None:
    rules = Preprocessing(
        colour="rgb", scale=1 / 255, image=ImageRules(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    )
    one_by_one = np.concatenate([preprocess(sample, rules, RGB) for sample in NOISE])
    assert np.array_equal(prepare(NOISE, rules, RGB), one_by_one)


def test_a_batch_that_does_not_fill_the_input_is_refused() -> None:
    with pytest.raises(WorkerError) as caught:
        prepare(NOISE[:, :5], SCALED, RGB)
    assert caught.value.code == "worker.source.shape"


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_encoded_images_of_any_size_become_one_batch() -> None:
    large = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    crop = Preprocessing(colour="bgr", scale=1 / 255, image=ImageRules(fit=Fit.CROP))
    found = prepare_pictures([encoded(NOISE[0]), encoded(large)], crop, RGB)
    assert found.shape == (2, 6, 8, 3)
    assert np.array_equal(found[0], (NOISE[0, ..., ::-1].astype(np.int16) - 128).astype(np.int8))
    expected = np.asarray(Image.fromarray(large).resize((8, 6), box=(0, 8.75, 30, 31.25)))
    assert np.array_equal(found[1], (expected[..., ::-1].astype(np.int16) - 128).astype(np.int8))


BROKEN = [damage_png(encoded(NOISE[0]), kind) for kind in DAMAGES]


@pytest.mark.parametrize("content", [b"", b"no image", encoded(NOISE[0])[:60], *BROKEN])
def test_what_is_no_image_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(WorkerError) as caught:
        prepare_pictures([content], SCALED, RGB)
    assert caught.value.code == "worker.image.damaged"


def test_strangers_send_no_bombs_and_no_exotic_formats() -> None:
    bomb = bytearray(encoded(NOISE[0]))
    bomb[16:24] = struct.pack(">II", 10_000, 6_000)  # IHDR: width, height
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    with pytest.raises(WorkerError, match="too many") as caught:
        prepare_pictures([bytes(bomb)], SCALED, RGB)
    assert caught.value.code == "worker.image.damaged"
    exotic = io.BytesIO()
    Image.fromarray(NOISE[0]).save(exotic, "TIFF")
    with pytest.raises(WorkerError, match="is no image"):
        prepare_pictures([exotic.getvalue()], SCALED, RGB)


def test_a_model_of_numbers_takes_no_image() -> None:
    with pytest.raises(WorkerError) as caught:
        prepare_pictures([encoded(NOISE[0])], SCALED, TensorInfo("x", INT8, (1, 8), None))
    assert caught.value.code == "worker.image.unfit"


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_a_frame_of_a_camera_is_blue_green_red(colour: str) -> None:
    rule = Preprocessing(colour=colour, scale=1 / 255)
    frame = NOISE[0, ..., ::-1]
    assert np.array_equal(fit_frame(frame, rule, RGB), NOISE[0] if colour == "rgb" else frame)


def test_few_large_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some hundred megabytes, however small its file is."""
    buffer = io.BytesIO()
    Image.new("L", (2000, 1001)).save(buffer, "PNG")
    lock, inside, most = threading.Lock(), 0, 0

    def fit_slowly(*words: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.05)
        with lock:
            inside -= 1
        return fit_image(*words)

    monkeypatch.setattr(pictures, "fit_image", fit_slowly)
    info = TensorInfo("x", np.dtype(np.float32), (1, 4, 4, 1), None)
    ask = partial(prepare_pictures, [buffer.getvalue()], Preprocessing(colour="grey"), info)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 0 < most <= 2
