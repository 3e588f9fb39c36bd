"""Import of somebody else's model: what is made of it, and what is refused."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.imported import ImportRequest, import_model
from fleet_cloud.factory.lite import LiteModel
from fleet_shared.manifest import Fit, ImageRules, Layout, Preprocessing, Resize, Role
from fleet_shared.pixels import fit_image, to_real
from tests.cloud.factory.edited_model import with_op_version
from tests.kit.damaged_png import DAMAGES, damage_png
from tests.kit.tiny_model import (
    make_dynamic_model,
    make_image_classifier,
    make_sum_and_product,
    make_tiny_model,
)


@pytest.fixture
def request_(tmp_path: Path) -> ImportRequest:
    file = tmp_path / "model.tflite"
    file.write_bytes(make_tiny_model())
    return ImportRequest(file, labels=None, samples=None, golden=None, preprocessing=Preprocessing())


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def golden_arrays(request: ImportRequest, count: int = 3) -> dict[str, NDArray[Any]]:
    x = np.random.default_rng(5).normal(size=(count, 8)).astype(np.float32)
    model = LiteModel(request.file.read_bytes())
    return {"input_0": x, "output_0": np.concatenate([model.run([x[i : i + 1]])[0] for i in range(count)])}


def test_random_inputs_make_golden_vectors_and_accuracy_stays_unknown(request_: ImportRequest) -> None:
    package = import_model(request_)
    assert package.name == "fp32"
    assert package.contract.metrics.accuracy is None
    assert package.contract.golden.samples == 16
    assert set(package.blobs) == {Role.MODEL, Role.GOLDEN}
    assert package.blobs[Role.MODEL] == request_.file.read_bytes()
    assert import_model(request_).refs == package.refs


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (4,)])
def test_models_of_several_tensors_with_and_without_a_batch(
    request_: ImportRequest, shape: tuple[int, ...]
) -> None:
    request_.file.write_bytes(make_sum_and_product(shape))
    package = import_model(request_)
    item = shape[1:] if shape[0] == 1 else shape
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        assert archive["input_1"].shape == (16, *item)
        assert np.allclose(archive["output_0"], archive["input_0"] + archive["input_1"])
        assert np.allclose(archive["output_1"], archive["input_0"] * archive["input_1"])


def test_an_int8_model_is_called_so_and_gets_the_whole_range(request_: ImportRequest) -> None:
    request_.file.write_bytes(make_tiny_model(int8=True))
    package = import_model(request_)
    assert package.name == "int8"
    assert package.contract.golden.tolerance >= 4 / 256
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        assert archive["input_0"].min() < -100
        assert archive["input_0"].max() > 100


def test_random_pixels_are_in_the_range_of_pixels(request_: ImportRequest) -> None:
    request_.file.write_bytes(make_image_classifier(4, 4, 3))
    package = import_model(replace(request_, preprocessing=Preprocessing(colour="rgb", offset=-128.0)))
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        assert -128 <= archive["input_0"].min() < -100
        assert 100 < archive["input_0"].max() <= 127


def test_images_are_resized_and_coloured_as_on_a_device(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_image_classifier(4, 6, 1))
    for number in range(20):
        Image.new("RGB", (12, 8), (number, number, number)).save(tmp_path / f"{number}.png")
    package = import_model(replace(request_, samples=tmp_path))
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        assert archive["input_0"].shape == (16, 4, 6, 1)
        assert set(archive["input_0"].ravel().tolist()) <= set(range(20))


def test_samples_are_preprocessed_into_the_golden_inputs(request_: ImportRequest, tmp_path: Path) -> None:
    x = np.random.default_rng(3).integers(0, 255, (20, 8))
    package = import_model(
        replace(
            request_,
            samples=save(tmp_path / "samples.npz", x=x),
            preprocessing=Preprocessing(scale=0.5, offset=-1.0),
        )
    )
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        recorded = {tuple(row) for row in archive["input_0"].tolist()}
    assert recorded <= {tuple(row) for row in (x * 0.5 - 1.0).tolist()}
    assert package.contract.preprocessing.scale == 0.5


def test_golden_vectors_of_ones_own_are_taken_as_they_are(request_: ImportRequest, tmp_path: Path) -> None:
    arrays = golden_arrays(request_)
    package = import_model(replace(request_, golden=save(tmp_path / "g.npz", **arrays)))
    assert package.contract.golden.samples == 3
    with np.load(io.BytesIO(package.blobs[Role.GOLDEN])) as archive:
        assert np.array_equal(archive["input_0"], arrays["input_0"])
        assert np.array_equal(archive["output_0"], arrays["output_0"])


def test_golden_vectors_that_do_not_fit_the_model_are_refused(
    request_: ImportRequest, tmp_path: Path
) -> None:
    right = golden_arrays(request_)
    wrong: dict[str, dict[str, NDArray[Any]]] = {
        "differs by": {**right, "output_0": 1 - right["output_0"]},
        "different numbers": {**right, "output_0": right["output_0"][:2]},
        "is missing": {"input_0": right["input_0"]},
        "float64": {**right, "input_0": right["input_0"].astype(np.float64)},
        "is float32 \\(\\)": {**right, "input_0": np.array(1, np.float32)},
        "not a finite number": {**right, "output_0": right["output_0"] * np.float32(np.nan)},
        "expected samples": {**right, "input_0": right["input_0"][:, :5]},
    }
    for message, arrays in wrong.items():
        with pytest.raises(Invalid, match=message) as caught:
            import_model(replace(request_, golden=save(tmp_path / "g.npz", **arrays)))
        assert caught.value.code == "model.golden"


def test_labels_are_as_many_as_classes(request_: ImportRequest, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    package = import_model(replace(request_, labels=labels))
    assert package.blobs[Role.LABELS] == b"a\nb\nc\nd\n"
    for content in (b"a\nb\n", b"\xff\xfe"):
        labels.write_bytes(content)
        with pytest.raises(Invalid) as caught:
            import_model(replace(request_, labels=labels))
        assert caught.value.code == "model.labels"


def test_a_single_output_has_one_label_or_two(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_dynamic_model(classes=1))
    labels = tmp_path / "labels.txt"
    for content in ("warm\n", "cold\nwarm\n"):
        labels.write_text(content)
        assert import_model(replace(request_, labels=labels)).blobs[Role.LABELS].decode() == content
    labels.write_text("a\nb\nc\n")
    with pytest.raises(Invalid, match="1 or 2 classes"):
        import_model(replace(request_, labels=labels))


def test_samples_that_do_not_fit_are_refused(request_: ImportRequest, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "photos.rar").write_text("no archive")
    (tmp_path / "empty").mkdir()
    wrong = {
        save(tmp_path / "shape.npz", x=np.zeros((4, 9))): r"x in .* is float64 \(4, 9\), .* shape \(8,\)",
        save(tmp_path / "words.npz", x=np.array([["a"] * 8])): "takes numbers",
        save(tmp_path / "none.npz", x=np.zeros((0, 8))): r"none\.npz is empty",
        save(tmp_path / "scalar.npz", x=np.array(3.0)): r"is float64 \(\)",
        save(tmp_path / "nan.npz", x=np.array([[0.0] * 8, [np.nan] * 8])): r"x\[1\] in .*nan\.npz",
        save(tmp_path / "name.npz", samples=np.zeros((4, 8))): "has no array 'x'",
        tmp_path / "text.npz": "is not an .npz file",
        tmp_path / "photos.rar": "is no image",
        tmp_path / "empty": "is no image",
    }
    for file, message in wrong.items():
        with pytest.raises(Invalid, match=message) as caught:
            import_model(replace(request_, samples=file))
        assert caught.value.code == "model.samples"
        assert caught.value.hint
        assert "\n" not in caught.value.message
        assert "pickle" not in caught.value.message
        assert "several inputs" not in caught.value.hint


def test_a_model_that_takes_channels_first_says_so(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_image_classifier(1, 8, 6))
    samples = save(tmp_path / "s.npz", x=np.zeros((4, 8, 6, 1)))
    with pytest.raises(Invalid, match=r"the model takes numbers of shape \(1, 8, 6\)") as caught:
        import_model(replace(request_, samples=samples))
    assert "channels first" in (caught.value.hint or "")


def test_samples_of_images_are_refused_in_one_line(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_image_classifier(4, 4, 3))
    (tmp_path / "photos.rar").write_text("no archive")
    (tmp_path / "empty").mkdir()
    for name, message in (("photos.rar", "it is damaged, or no archive"), ("empty", "has no images")):
        with pytest.raises(Invalid, match=message) as caught:
            import_model(replace(request_, samples=tmp_path / name))
        assert (caught.value.code, "\n" in caught.value.message) == ("model.samples", False)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_image_is_named(request_: ImportRequest, tmp_path: Path, kind: str) -> None:
    request_.file.write_bytes(make_image_classifier(4, 4, 3))
    whole = io.BytesIO()
    Image.new("RGB", (4, 4)).save(whole, "PNG")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(damage_png(whole.getvalue(), kind))
    with pytest.raises(Invalid, match=r"one\.png in .* is no image that can be read"):
        import_model(replace(request_, samples=tmp_path / "photos"))


def test_random_inputs_that_see_one_class_are_warned_about(request_: ImportRequest, tmp_path: Path) -> None:
    request_.file.write_bytes(make_image_classifier(16, 16, 3))
    alike = Preprocessing(colour="rgb", scale=1e-6, offset=1.0)
    assert "--samples" in " ".join(import_model(replace(request_, preprocessing=alike)).warnings)
    pixels = replace(request_, preprocessing=Preprocessing(colour="rgb"))
    assert import_model(pixels).warnings == ()
    x = np.random.default_rng(1).integers(0, 255, (20, 16, 16, 3))
    given = replace(request_, preprocessing=alike, samples=save(tmp_path / "s.npz", x=x))
    assert import_model(given).warnings == (), "they are what the operator has"


def test_values_that_differ_are_no_single_answer(request_: ImportRequest) -> None:
    request_.file.write_bytes(make_dynamic_model(classes=1))
    assert import_model(request_).warnings == ()
    alike = Preprocessing(colour="rgb", scale=1e-9, offset=1.0)
    assert "--samples" in " ".join(import_model(replace(request_, preprocessing=alike)).warnings)


def test_a_file_that_is_no_model_or_not_there_is_refused(request_: ImportRequest, tmp_path: Path) -> None:
    content = request_.file.read_bytes()
    for broken in (b"text", content[:100], b"\0\0\0\0TFL3" + b"\xff" * 100):
        request_.file.write_bytes(broken)
        with pytest.raises(Invalid) as caught:
            import_model(request_)
        assert caught.value.code == "model.file.invalid"
    with pytest.raises(Invalid) as caught:
        import_model(replace(request_, file=tmp_path / "none.tflite"))
    assert caught.value.code == "model.file.missing"


def test_an_operator_that_litert_does_not_have_is_refused(request_: ImportRequest) -> None:
    request_.file.write_bytes(with_op_version(make_tiny_model(), 1, 200))
    with pytest.raises(Invalid) as caught:
        import_model(request_)
    assert caught.value.code == "model.file.unloadable"


def test_planar_images_with_mean_and_std_become_golden_vectors_as_a_device_computes_them(
    tmp_path: Path,
) -> None:
    """The vectors hold the very bytes that the device's own preprocessing makes of the images."""
    file = tmp_path / "m.tflite"
    file.write_bytes(make_image_classifier(3, 8, 6))  # as planes: 3 channels of 8 x 6
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(5).integers(0, 256, (8, 30, 20, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    rule = Preprocessing(
        colour="bgr",
        scale=1 / 255,
        image=ImageRules(
            resize=Resize.BILINEAR,
            fit=Fit.CROP,
            layout=Layout.NCHW,
            mean=(0.4, 0.5, 0.6),
            std=(0.2, 0.3, 0.4),
        ),
    )
    made = import_model(
        ImportRequest(file, labels=None, samples=tmp_path / "images", golden=None, preprocessing=rule)
    )
    with np.load(io.BytesIO(made.blobs[Role.GOLDEN])) as archive:
        found = archive["input_0"]
    expected = {
        to_real(fit_image(Image.fromarray(pixels), rule, (1, 3, 8, 6)), rule).tobytes() for pixels in noise
    }
    assert {sample.tobytes() for sample in found} <= expected
    assert len(found) == 8


def test_preprocessing_that_does_not_fit_the_model_is_refused(request_: ImportRequest) -> None:
    rule = Preprocessing(image=ImageRules(mean=(0.1,) * 7))
    with pytest.raises(Invalid, match="7 numbers") as caught:
        import_model(replace(request_, preprocessing=rule))
    assert caught.value.code == "model.preprocessing"
