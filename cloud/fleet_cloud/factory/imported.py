"""Somebody else's model, with golden vectors made here or given."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.arrays import check_finite, read_arrays
from fleet_cloud.factory.code import check_no_code
from fleet_cloud.factory.given_samples import count_classes, load_questions, load_samples
from fleet_cloud.factory.golden import (
    Measured,
    Vectors,
    ask_peers,
    find_difference,
    get_item_shape,
    get_share,
    measure,
    pack_golden,
)
from fleet_cloud.factory.inspect import FileFacts, inspect_file
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.package import Package, allowed_peers, package
from fleet_cloud.factory.peers import Peer
from fleet_shared.manifest import Golden, Metrics, Preprocessing, Role, find_wrong_preprocessing
from fleet_shared.pixels import to_real

Array = NDArray[Any]
CANDIDATES: Final = 64
PIXEL_MAX: Final = 255


@dataclass(frozen=True)
class ImportRequest:
    file: Path
    labels: Path | None
    samples: Path | None
    golden: Path | None
    preprocessing: Preprocessing
    peers: tuple[Peer, ...] = ()


def import_model(request: ImportRequest) -> Package:
    """Return the model as one variant with unknown accuracy (`fleet_cloud.factory.appraisal` measures what
    can be); raise `Invalid` for what is no model, for what LiteRT cannot load, and for labels or samples that
    do not fit it."""
    check_no_code(request.file)
    content = _read(request.file)
    facts = inspect_file(content)
    if wrong := find_wrong_preprocessing(request.preprocessing, facts.inputs[0].shape):
        raise Invalid(
            f"preprocessing does not fit the model: {wrong}",
            hint="see --mean, --std, --layout and --pad",
            code="model.preprocessing",
        )
    model = LiteModel(content)
    labels = _read_labels(request.labels, facts) if request.labels else []
    # Refused before the work begins.
    load_questions(request.samples, facts, request.preprocessing, tuple(labels))
    peers = allowed_peers(facts, request.peers)
    golden = _given_golden(content, model, request.golden, peers) if request.golden else None
    made = package(
        facts.variant,
        content,
        labels=labels,
        preprocessing=request.preprocessing,
        metrics=Metrics(),
        candidates=[] if golden else _candidates(model, request),
        golden=golden,
        peers=peers,
    )
    if request.samples is None and request.golden is None:
        made = warn_of_random_samples(made)
    return made


def warn_of_random_samples(made: Package) -> Package:
    """Noise seldom drives a model through its classes, and its answers to noise may be arbitrary. A model of
    one output gives values, which differ if it minds its input."""
    with np.load(io.BytesIO(made.blobs[Role.GOLDEN])) as archive:
        output = archive["output_0"].reshape(made.contract.golden.samples, -1)
    answers = output.argmax(axis=1) if output.shape[1] > 1 else output
    if not made.warnings and len(np.unique(answers)) > 1:
        return made
    why = "the golden vectors are made from random inputs, and all give one answer or allow much: "
    return replace(made, warnings=(*made.warnings, f"{why}give real inputs with --samples"))


def _read_labels(path: Path, facts: FileFacts) -> list[str]:
    """One label a line; as many as classes, where the output shows how many there are. A single output has
    one label, or two: what it is the probability of is the second."""
    try:
        labels = _read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise Invalid(f"{path} is no text", hint="one label a line, in UTF-8", code="model.labels") from exc
    shape = facts.outputs[0].shape if len(facts.outputs) == 1 else ()
    allowed = {shape[1], count_classes(shape[1])} if len(shape) == 2 and shape[1] > 0 else None
    if not labels or (allowed is not None and len(labels) not in allowed):
        raise Invalid(
            f"{path} has {len(labels)} labels, and the model's output {list(shape)} has "
            f"{' or '.join(map(str, sorted(allowed))) if allowed else 'some'} classes",
            hint="one label a line, in the order of the output's classes",
            code="model.labels",
        )
    return labels


def _candidates(model: LiteModel, request: ImportRequest) -> list[list[Array]]:
    if request.samples is None:
        return draw_random_samples(model, request.preprocessing)
    shape = tuple(int(size) for size in model.inputs[0]["shape"])
    if len(model.inputs) != 1:
        raise Invalid(
            f"the model takes {len(model.inputs)} inputs, and samples are for one",
            hint="give golden vectors of your own with --golden",
            code="model.samples",
        )
    x = load_samples(request.samples, shape, request.preprocessing)
    real = to_real(x[:CANDIDATES], request.preprocessing)
    return [[model.quantize(sample.reshape(shape))] for sample in real]


def draw_random_samples(model: LiteModel, preprocessing: Preprocessing) -> list[list[Array]]:
    """Random inputs: pixels where the preprocessing names a colour; else the whole range of integer
    types, and 0 to 1 for floats."""
    random = np.random.default_rng(0)

    def draw(index: int, detail: dict[str, Any]) -> Array:
        kind, shape = np.dtype(detail["dtype"]), tuple(detail["shape"])
        if preprocessing.colour is not None:
            pixels = random.integers(0, PIXEL_MAX, shape, endpoint=True)
            return model.quantize(to_real(pixels, preprocessing), index)
        if kind.kind == "f":
            return random.random(shape, dtype=np.float32).astype(kind)
        if kind.kind == "b":
            return random.integers(0, 2, shape).astype(kind)
        if kind.kind not in "iu":
            raise Invalid(
                f"no random inputs can be drawn for an input of {kind}",
                hint="give golden vectors of your own with --golden",
                code="model.samples",
            )
        limits = np.iinfo(kind)
        whole: Array = random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        return whole

    return [[draw(i, detail) for i, detail in enumerate(model.inputs)] for _ in range(CANDIDATES)]


def _given_golden(content: bytes, model: LiteModel, path: Path, peers: Sequence[Peer]) -> Vectors:
    """Take the operator's own vectors; what LiteRT computes here must agree with them."""
    arrays = read_arrays(path, "model.golden")
    inputs = _given_samples(arrays, "input", model.inputs, path)
    outputs = _given_samples(arrays, "output", model.outputs, path)
    if len(inputs) != len(outputs):
        raise _bad_golden(
            f"{path} has different numbers of inputs and outputs: {len(inputs)}, {len(outputs)}"
        )
    return ask_peers(content, inputs, measure(content, inputs), peers, partial(_check_given, model, outputs))


def _check_given(
    model: LiteModel, outputs: Sequence[list[Array]], inputs: Sequence[Sequence[Array]], measured: Measured
) -> Vectors:
    tolerance = max(measured.needs)
    largest = 0.0
    for number, wanted in enumerate(outputs):
        difference = find_difference(measured.real[number], _to_real(model, wanted))
        largest = max(largest, difference)
        if not difference <= tolerance:
            raise Invalid(
                f"golden sample {number} differs by {difference:.4g} from what LiteRT computes here, "
                f"allowed {tolerance:.4g}",
                hint="are these vectors of this model?",
                code="model.golden",
            )
    # A device may differ from LiteRT here, and LiteRT here differs from the given vectors already.
    tolerance += largest
    rule = Golden(samples=len(inputs), tolerance=tolerance, same_class=False)
    return Vectors(rule, pack_golden(inputs, outputs), get_share(tolerance, measured.range))


def _given_samples(
    arrays: dict[str, Array], kind: str, details: Sequence[dict[str, Any]], path: Path
) -> list[list[Array]]:
    """Return samples as lists of tensors; refuse what does not fit the model."""
    columns = []
    for index, detail in enumerate(details):
        name, shape, dtype = f"{kind}_{index}", tuple(detail["shape"]), np.dtype(detail["dtype"])
        array = arrays.get(name)
        if array is None:
            raise _bad_golden(f"{name} is missing in {path}, which has {sorted(arrays)}")
        fits = array.ndim and len(array) and array.shape[1:] in {get_item_shape(shape), shape}
        if array.dtype != dtype or not fits:
            raise _bad_golden(
                f"{name} in {path} is {array.dtype} {array.shape}, expected samples of {dtype} "
                f"{get_item_shape(shape)}"
            )
        check_finite(array, name, path, "model.golden")
        columns.append([sample.reshape(shape) for sample in array])
    if len({len(column) for column in columns}) != 1:
        raise _bad_golden(f"the {kind}s in {path} have different numbers of samples")
    return [list(sample) for sample in zip(*columns, strict=True)]


def _bad_golden(message: str) -> Invalid:
    return Invalid(
        message,
        hint="input_0 .. and output_0 .., samples first, in the types of the model's tensors",
        code="model.golden",
    )


def _to_real(model: LiteModel, outputs: Sequence[Array]) -> list[NDArray[np.float32]]:
    return [model.dequantize(output, index) for index, output in enumerate(outputs)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Invalid(
            f"{path} cannot be read: {exc.strerror}", hint="check the path", code="model.file.missing"
        ) from exc
