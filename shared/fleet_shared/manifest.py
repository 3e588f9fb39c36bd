"""The manifest: what one variant of a version promises, needs and consists of.

It is canonical JSON (sorted keys, no spaces), named by the sha256 of these bytes, and released
as a TUF target. Whoever holds the digest holds the whole variant.
"""

from typing import ClassVar

import msgspec

from fleet_shared.errors import MessageError
from fleet_shared.limits import MANIFEST_BYTES
from fleet_shared.names import Digest, ModelName, VariantName, digest_of, parse_digest
from fleet_shared.runtime_range import parse_range
from fleet_shared.wire import Document, OpenEnum, decode


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


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """From a decoded sample to the real-valued input: real = value * scale + offset.

    Images are resized to the input's height and width and brought to ``colour`` first
    (``rgb``, ``grey``, or none for samples that are no images). Quantizing the input follows the
    tensor's own scale and zero point.
    """

    colour: str | None = None
    scale: float = 1.0
    offset: float = 0.0


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
    """The document of one variant."""

    LIMIT_BYTES: ClassVar[int] = MANIFEST_BYTES

    model: ModelName
    version: str
    variant: VariantName
    contract: Contract
    blobs: dict[Role, BlobRef]

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs, decoded."""
        return sum(blob.size_bytes for blob in self.blobs.values())


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
    return manifest


def digest_of_manifest(manifest: Manifest) -> Digest:
    return digest_of(encode_manifest(manifest))
