"""The manifest: what one variant of a version promises, needs and consists of.

It is canonical JSON (sorted keys, no spaces), named by the sha256 of these bytes, and released
as a TUF target. Whoever holds the digest holds the whole variant.
"""

from typing import ClassVar, Final

import msgspec

from fleet_shared.errors import MessageError
from fleet_shared.limits import MANIFEST_BYTES
from fleet_shared.names import Digest, ModelName, VariantName, digest_of, parse_digest
from fleet_shared.runtime_range import parse_range
from fleet_shared.wire import Document, OpenEnum, decode

PIXEL_MAX: Final = 255


class Role(OpenEnum):
    """What a blob is to its variant."""

    MODEL = "model"
    GOLDEN = "golden"
    LABELS = "labels"
    UNKNOWN = "unknown"


class BlobRef(msgspec.Struct, frozen=True, kw_only=True):
    sha256: Digest
    size_bytes: int


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """Affine, per tensor: real = (q - zero_point) * scale."""

    scale: float
    zero_point: int


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output. ``shape`` includes the batch; -1 means any."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    quantization: Quantization | None = None


class Resize(OpenEnum):
    """How an image gets another size, as Pillow 10 and later compute it: all but ``nearest`` widen
    their filter when they shrink (antialias). ``area`` is Pillow's box filter."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    AREA = "area"
    UNKNOWN = "unknown"


class Fit(OpenEnum):
    """What happens to an image of another aspect ratio: ``stretch`` it; ``crop`` the largest centred
    part of the right ratio; ``letterbox``: all of it, centred, with ``pad`` around."""

    STRETCH = "stretch"
    CROP = "crop"
    LETTERBOX = "letterbox"
    UNKNOWN = "unknown"


class Layout(OpenEnum):
    NHWC = "nhwc"
    NCHW = "nchw"
    UNKNOWN = "unknown"


class ImageRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``colour``, ``scale`` and ``offset`` alone cannot say. The defaults are what manifests
    without rules mean.

    ``pad``: the value (0 to 255) of all channels around a letterboxed image. ``mean``, ``std``: one
    number, or one for each channel in the order of ``colour``; none: 0 and 1.
    """

    resize: Resize = Resize.BICUBIC
    fit: Fit = Fit.STRETCH
    pad: int = 0
    layout: Layout = Layout.NHWC
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


COLOURS: Final = ("rgb", "bgr", "grey")


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """From a decoded sample to the real-valued input:

        real = (value * scale + offset - mean) / std

    Images are brought to the input's height and width and to ``colour`` first (one of `COLOURS`, or
    none for samples that are no images). Arrays are taken as they are: they have the layout and the
    order of colours of the input already. Quantizing the input follows the tensor's own scale and
    zero point.

    ``image`` is left out of the document when it says nothing, so that manifests from before it was
    there keep their bytes, and so their name.
    """

    colour: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    image: ImageRules | msgspec.UnsetType = msgspec.UNSET

    @property
    def rules(self) -> ImageRules:
        return ImageRules() if isinstance(self.image, msgspec.UnsetType) else self.image


class OpUse(msgspec.Struct, frozen=True, kw_only=True):
    """An operator as a file uses it: TFLite's builtin name (or custom code) and version.

    ``dtypes`` are the types of its inputs in order (empty: absent optional input);
    ``per_channel`` tells whether a constant input is quantized per channel.
    """

    name: str
    version: int
    dtypes: tuple[str, ...] = ()
    per_channel: bool = False
    count: int = 1


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """The self-test: ``samples`` recorded inputs and outputs.

    ``tolerance`` is the largest allowed |difference| of any output element, in the output's
    real (dequantized) unit; the class of every sample must agree as well if ``same_class``.
    """

    samples: int
    tolerance: float
    same_class: bool = True


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Measured at build time; none means unknown. Fractions from 0 to 1.

    ``accuracy`` is on the test split (read once, for the release), ``validation_accuracy`` on
    the split that decisions may use. ``latency_p50_us`` was taken on the build machine.
    """

    accuracy: float | None = None
    validation_accuracy: float | None = None
    latency_p50_us: float | None = None
    test_samples: int | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant promises and needs.

    ``runtimes`` maps a runtime's name to its version range (``>=2.14``; empty: any);
    ``memory_bytes`` estimates the peak of model and tensors inside the worker.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[OpUse, ...]
    runtimes: dict[str, str]
    memory_bytes: int
    golden: Golden
    preprocessing: Preprocessing = Preprocessing()
    metrics: Metrics = Metrics()


class Manifest(Document, frozen=True, kw_only=True):
    """The document of one variant.

    Schema 2 is schema 1 with ``critical``: dotted names, below ``contract``, of fields that a reader
    must understand; who does not must not run the variant. A manifest that needs none is of schema 1,
    whose readers would ignore such fields and compute something else. `compose_manifest` decides.
    """

    LIMIT_BYTES: ClassVar[int] = MANIFEST_BYTES
    SCHEMA: ClassVar[int] = 2

    model: ModelName
    version: str
    variant: VariantName
    contract: Contract
    blobs: dict[Role, BlobRef]
    critical: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs, decoded."""
        return sum(blob.size_bytes for blob in self.blobs.values())


UNDERSTOOD: Final = frozenset(
    {"preprocessing.colour", *(f"preprocessing.image.{name}" for name in ImageRules.__struct_fields__)}
)
"""What may stand in ``critical`` for this version of the protocol."""


def compose_manifest(
    *, model: ModelName, version: str, variant: VariantName, contract: Contract, blobs: dict[Role, BlobRef]
) -> Manifest:
    """Return the manifest of a variant, with the lowest schema whose readers understand it."""
    critical = find_critical(contract.preprocessing)
    return Manifest(
        schema=2 if critical else 1,
        model=model,
        version=version,
        variant=variant,
        contract=contract,
        blobs=blobs,
        critical=critical or msgspec.UNSET,
    )


def find_critical(preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return the fields that a reader of schema 1 would not know or take for something else."""
    rules, usual = preprocessing.rules, ImageRules()
    names = [
        f"image.{name}"
        for name in ImageRules.__struct_fields__
        if getattr(rules, name) != getattr(usual, name)
    ]
    if preprocessing.colour == "bgr":
        names.insert(0, "colour")
    return tuple(f"preprocessing.{name}" for name in names)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of ``manifest``; their sha256 is its name."""
    raw = msgspec.json.encode(manifest, order="sorted")
    parse_manifest(raw)
    return raw


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest in ``raw``, or raise `MessageError` saying what is wrong with it."""
    manifest = decode(Manifest, raw)
    for role in (Role.MODEL, Role.GOLDEN):
        if role not in manifest.blobs:
            raise MessageError(f"manifest of {manifest.model} has no {role.value!r} blob")
    for blob in manifest.blobs.values():
        parse_digest(blob.sha256)
    if not manifest.contract.inputs or not manifest.contract.outputs:
        raise MessageError(f"manifest of {manifest.model} names no inputs or no outputs")
    for runtime, versions in manifest.contract.runtimes.items():
        try:
            parse_range(versions)
        except ValueError as exc:
            raise MessageError(f"manifest of {manifest.model}, runtime {runtime}: {exc}") from exc
    _check_critical(manifest)
    return manifest


def digest_of_manifest(manifest: Manifest) -> Digest:
    return digest_of(encode_manifest(manifest))


def _check_critical(manifest: Manifest) -> None:
    """Refuse what this version would compute otherwise than whoever wrote the manifest."""
    listed = () if isinstance(manifest.critical, msgspec.UnsetType) else manifest.critical
    if unknown := sorted(set(listed) - UNDERSTOOD):
        raise MessageError(
            f"manifest of {manifest.model} needs a reader that understands {', '.join(unknown)}",
            hint="it was written by a newer Fleet; update this side",
            code="manifest.critical",
        )
    needed = find_critical(manifest.contract.preprocessing)
    if missing := sorted(set(needed) - set(listed)) or (
        ["schema 2"] if needed and manifest.schema < 2 else []
    ):
        raise MessageError(
            f"manifest of {manifest.model} must list as critical: {', '.join(missing)}",
            hint="an older reader would compute something else",
            code="manifest.critical",
        )
    contract = manifest.contract
    if needed and (wrong := find_wrong_preprocessing(contract.preprocessing, contract.inputs[0].shape)):
        raise MessageError(
            f"preprocessing of {manifest.model}: {wrong}",
            hint="docs/sources.md says what preprocessing can be",
            code="manifest.preprocessing",
        )


def find_wrong_preprocessing(preprocessing: Preprocessing, shape: tuple[int, ...]) -> str:
    """Return what does not fit an input of ``shape``, batch first; empty when all is well."""
    rules = preprocessing.rules
    planar = rules.layout is Layout.NCHW
    if planar and len(shape) != 4:
        return f"layout nchw is for images, and the input is {list(shape)}"
    channels = shape[1 if planar else -1] if shape else 1
    for name, value in (("resize", rules.resize), ("fit", rules.fit), ("layout", rules.layout)):
        if value.value == "unknown":
            return f"{name} is not one that this version knows"
    for name, values in (("mean", rules.mean), ("std", rules.std)):
        if len(values) not in {0, 1, channels}:
            return f"{name} has {len(values)} numbers for {channels} channels"
    if not all(value > 0 for value in rules.std):
        return "std has a number that is not above 0"
    if not 0 <= rules.pad <= PIXEL_MAX:
        return f"pad is {rules.pad}, expected 0 to {PIXEL_MAX}"
    return ""
