"""Ranges of versions: read exactly or not at all."""

import msgspec
import pytest

from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.errors import MessageError
from fleet_shared.manifest import BlobRef, Contract, Golden, Manifest, Role, Tensor, parse_manifest
from fleet_shared.names import Digest, ModelName, VariantName


def contract(versions: str) -> Contract:
    tensor = Tensor(name="x", dtype="int8", shape=(1, 2))
    return Contract(
        inputs=(tensor,), outputs=(tensor,), ops=(), runtimes={"litert": versions}, memory_bytes=1,
        golden=Golden(samples=1, tolerance=0.1),
    )  # fmt: skip


@pytest.mark.parametrize(
    "versions",
    [
        "latest",
        ">2.14",
        "<2",
        "==9.9",
        "2.14",
        ">=",
        ">=2.14,<3",
        ">= 2.14",
        ">=2.14.x",
        ">=\u0662",
        " ",
        ">=2.",
    ],
)
def test_a_range_that_is_not_understood_fits_nothing(versions: str) -> None:
    (reason,) = find_incompatibilities(contract(versions), "litert", "9.9.9")
    assert repr(versions) in reason
    raw = msgspec.json.encode(manifest_with(contract(versions)))
    with pytest.raises(MessageError, match="litert"):
        parse_manifest(raw)


@pytest.mark.parametrize(
    ("versions", "version", "fits"),
    [
        ("", "anything", True),
        ("", "0.1", True),
        (">=2.14", "2.14", True),
        (">=2.14.0", "2.14", True),
        (">=2.14", "2.14.0.post1", True),
        (">=2.14.1", "2.14", False),
        (">=2.14", "2.9", False),
        (">=2.14", "nightly", False),
        (">=0", "nightly", False),
    ],
)
def test_versions_compare_as_numbers(versions: str, version: str, fits: bool) -> None:
    found = find_incompatibilities(contract(versions), "litert", version)
    assert (not found) is fits
    parse_manifest(msgspec.json.encode(manifest_with(contract(versions))))


def manifest_with(one: Contract) -> Manifest:
    blob = BlobRef(sha256=Digest("a" * 64), size_bytes=1)
    return Manifest(
        model=ModelName("m"), version="1.0.0", variant=VariantName("v"), contract=one,
        blobs={Role.MODEL: blob, Role.GOLDEN: blob},
    )  # fmt: skip
