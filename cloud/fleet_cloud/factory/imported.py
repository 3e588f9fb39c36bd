"""Somebody else's model, with golden vectors made here or given."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.data import IMAGE_SUFFIXES, to_real
from fleet_cloud.factory.evaluate import LiteModel
from fleet_cloud.factory.golden import make_golden, pack_golden
from fleet_cloud.factory.package import Package, package
from fleet_shared.manifest import Golden, Metrics, Preprocessing

Array = NDArray[Any]
RANDOM_SAMPLES = 16


@dataclass(frozen=True)
class ImportRequest:
    file: Path
    labels: Path | None
    samples: Path | None
    golden: Path | None
    preprocessing: Preprocessing


def import_model(request: ImportRequest) -> Package:
    """Return the model as one variant with unknown accuracy; raise `Invalid` for what LiteRT cannot
    load, with nothing registered."""
    content = _read(request.file)
    model = LiteModel(content) if content[4:8] == b"TFL3" else None
    golden = None
    candidates: list[list[Array]] = []
    if model is not None:
        if request.golden is not None:
            golden = _given_golden(content, model, request.golden)
        else:
            candidates = _samples(model, request)
    labels = _read(request.labels).decode().splitlines() if request.labels else []
    name = "int8" if model is not None and model.inputs[0]["dtype"] == np.int8 else "fp32"
    return package(
        name,
        content,
        labels=labels,
        preprocessing=request.preprocessing,
        metrics=Metrics(),
        candidates=candidates,
        golden=golden,
    )


def _samples(model: LiteModel, request: ImportRequest) -> list[list[Array]]:
    if request.samples is None:
        return _random_samples(model)
    if request.samples.suffix == ".npz":
        x = _load_arrays(request.samples).get("x")
        if x is None:
            raise Invalid(f"{request.samples} has no array 'x'", code="model.samples")
    else:
        x = _load_images(request.samples, model, request.preprocessing)
    shape = tuple(model.inputs[0]["shape"][1:])
    if x.shape[1:] != shape:
        raise Invalid(f"samples have shape {x.shape[1:]}, the model wants {shape}", code="model.samples")
    real = to_real(x, request.preprocessing)
    return [[model.quantize(real[i : i + 1])] for i in range(min(len(real), 4 * RANDOM_SAMPLES))]


def _random_samples(model: LiteModel) -> list[list[Array]]:
    """Random inputs over the whole range of each input's type; floats from 0 to 1."""
    random = np.random.default_rng(0)

    def draw(detail: dict[str, Any]) -> Array:
        kind = np.dtype(detail["dtype"])
        if kind.kind == "f":
            drawn: Array = random.random(detail["shape"], dtype=np.float32).astype(kind)
            return drawn
        limits = np.iinfo(kind)
        whole: Array = random.integers(limits.min, limits.max, detail["shape"], dtype=kind, endpoint=True)
        return whole

    return [[draw(detail) for detail in model.inputs] for _ in range(4 * RANDOM_SAMPLES)]


def _given_golden(content: bytes, model: LiteModel, path: Path) -> tuple[Golden, bytes]:
    """Take the operator's own vectors; what LiteRT computes here must agree with them."""
    arrays = _load_arrays(path)
    try:
        inputs = [arrays[f"input_{i}"] for i in range(len(model.inputs))]
        outputs = [arrays[f"output_{i}"] for i in range(len(model.outputs))]
    except KeyError as exc:
        raise Invalid(
            f"{path} has no array {exc}",
            hint="input_0 .. and output_0 .., samples first",
            code="model.golden",
        ) from exc
    count = len(inputs[0])
    samples = [[array[i : i + 1] for array in inputs] for i in range(count)]
    rule, _ = make_golden(content, samples)
    for i, sample in enumerate(samples):
        for index, got in enumerate(model.run(sample)):
            wanted = model.dequantize(outputs[index][i : i + 1], index)
            difference = float(np.max(np.abs(model.dequantize(got, index) - wanted)))
            if not difference <= rule.tolerance:
                raise Invalid(
                    f"golden sample {i} differs by {difference:.4g} from what LiteRT computes here, "
                    f"allowed {rule.tolerance:.4g}",
                    hint="are these vectors of this model?",
                    code="model.golden",
                )
    given = [[array[i : i + 1] for array in outputs] for i in range(count)]
    return Golden(samples=count, tolerance=rule.tolerance, same_class=False), pack_golden(samples, given)


def _load_images(folder: Path, model: LiteModel, preprocessing: Preprocessing) -> Array:
    shape = model.inputs[0]["shape"]
    if len(shape) != 4:
        raise Invalid(f"the model's input {list(shape)} is no image", code="model.samples")
    mode = "L" if preprocessing.colour == "grey" or shape[3] == 1 else "RGB"
    images = []
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            try:
                with Image.open(file) as image:
                    array = np.asarray(image.convert(mode).resize((int(shape[2]), int(shape[1]))))
            except UnidentifiedImageError as exc:
                raise Invalid(f"{file} is no image", code="model.samples") from exc
            images.append(array.reshape(tuple(shape[1:])))
    if not images:
        raise Invalid(f"{folder} has no images", hint="png, jpg or bmp", code="model.samples")
    return np.stack(images)


def _load_arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(_read(path)), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, zipfile.BadZipFile) as exc:
        raise Invalid(f"{path} is not an .npz file: {exc}", code="model.samples") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Invalid(
            f"{path} cannot be read: {exc.strerror}", hint="check the path", code="model.file.missing"
        ) from exc
