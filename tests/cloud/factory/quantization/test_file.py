"""Float files without a Keras model: quantized after training, with samples where ranges are needed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.canonical import canonicalise
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Part
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.network import Precision
from fleet_cloud.factory.quantization.file import quantize_file
from fleet_cloud.factory.quantization.targets import check_target
from tests.cloud.factory.edited_model import edit
from tests.cloud.factory.small import make_lab, make_network


@pytest.fixture(scope="module")
def float_file() -> bytes:
    return convert(make_network(width=8), make_lab())


def probabilities(content: bytes) -> NDArray[Any]:
    lab, file = make_lab(), LiteModel(content)
    real = lab.real(lab.validation.x[:24])
    return np.stack([file.dequantize(file.run([file.quantize(one[np.newaxis])])[0])[0] for one in real])


@pytest.mark.parametrize(
    ("precision", "variant", "far"),
    [
        (Precision("float16"), "fp16", 0.002),
        (Precision("dynamic-range"), "dynamic", 0.05),
        (Precision("int8", calibration_samples=16), "int8", 0.05),
        (Precision("int16x8", calibration_samples=16), "int16x8", 0.05),
    ],
)
def test_each_precision(float_file: bytes, precision: Precision, variant: str, far: float) -> None:
    lab = make_lab()
    unlabelled = replace(lab, train=Part(lab.train.x, None))
    content = quantize_file(float_file, precision, unlabelled)
    assert canonicalise(content) == content
    assert inspect_file(content).variant == variant
    assert len(content) < len(float_file)
    assert np.abs(probabilities(content) - probabilities(float_file)).max() <= far


def test_a_file_without_signatures_gets_one(float_file: bytes) -> None:
    def strip(model: Any) -> None:
        model.signatureDefs = None

    bare = edit(float_file, strip)
    content = quantize_file(bare, Precision("int8", calibration_samples=16), make_lab())
    assert np.abs(probabilities(content) - probabilities(float_file)).max() <= 0.05


def test_one_scale_for_dense_layers_if_asked(float_file: bytes) -> None:
    content = quantize_file(float_file, Precision("dynamic-range", per_channel_dense=False), None)
    check_target(content, "tflite-2.14")
    with pytest.raises(BuildError, match="FULLY_CONNECTED"):
        check_target(quantize_file(float_file, Precision("dynamic-range"), None), "tflite-2.14")


def test_float_stays_as_it_is_and_integers_need_samples(float_file: bytes) -> None:
    assert quantize_file(float_file, Precision(), None) is float_file
    with pytest.raises(BuildError, match="int8 needs samples") as caught:
        quantize_file(float_file, Precision("int8"), None)
    assert caught.value.code == "build.samples"


def test_what_is_not_float_is_refused(float_file: bytes) -> None:
    int8 = quantize_file(float_file, Precision("int8", calibration_samples=8), make_lab())
    with pytest.raises(BuildError, match="the file is int8 already") as caught:
        quantize_file(int8, Precision("int8", calibration_samples=8), make_lab())
    assert caught.value.code == "build.convert"
