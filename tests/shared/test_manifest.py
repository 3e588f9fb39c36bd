"""The manifest: its canonical bytes, its name, and what is refused."""

from typing import Any

import msgspec
import pytest

from fleet_shared.errors import FleetError, MessageError
from fleet_shared.manifest import (
    ImageRules,
    Manifest,
    Role,
    compose_manifest,
    digest_of_manifest,
    encode_manifest,
    parse_manifest,
)
from tests.shared.messages.samples import MANIFEST, MANIFEST_2

DIGEST = "47b3cf5d8212b0ac1c03f35cfd294e54a12a82e1874527508a68eadcaa592ec2"
CANONICAL_START = b'{"blobs":{"golden":{"sha256":"abab'


def changed(**changes: Any) -> Manifest:
    return msgspec.structs.replace(MANIFEST, **changes)


def test_the_bytes_are_canonical_and_their_digest_is_the_name() -> None:
    raw = encode_manifest(MANIFEST)
    assert raw.startswith(CANONICAL_START)
    assert b" " not in raw.replace(b"a tensor", b"")
    assert digest_of_manifest(MANIFEST) == DIGEST


def test_the_order_in_which_blobs_were_given_changes_nothing() -> None:
    backwards = changed(blobs=dict(reversed(MANIFEST.blobs.items())))
    assert digest_of_manifest(backwards) == DIGEST


def test_a_manifest_reads_back_and_knows_its_size() -> None:
    read = parse_manifest(encode_manifest(MANIFEST))
    assert read == MANIFEST
    assert read.size_bytes == sum(blob.size_bytes for blob in MANIFEST.blobs.values()) == 111


@pytest.mark.parametrize("role", [Role.MODEL, Role.GOLDEN])
def test_model_and_golden_vectors_are_needed(role: Role) -> None:
    blobs = {key: blob for key, blob in MANIFEST.blobs.items() if key is not role}
    with pytest.raises(MessageError, match=role.value):
        encode_manifest(changed(blobs=blobs))
    with pytest.raises(MessageError, match=role.value):
        parse_manifest(msgspec.json.encode(changed(blobs=blobs)))


def test_labels_are_not_needed() -> None:
    blobs = {key: blob for key, blob in MANIFEST.blobs.items() if key is not Role.LABELS}
    assert parse_manifest(encode_manifest(changed(blobs=blobs))).blobs.keys() == {Role.MODEL, Role.GOLDEN}


@pytest.mark.parametrize("role", [Role.MODEL, Role.GOLDEN, Role.LABELS])
def test_every_blob_is_named_by_a_digest(role: Role) -> None:
    """A digest becomes the name of a file on the device."""
    blob = msgspec.structs.replace(MANIFEST.blobs[role], sha256="../../etc/passwd")
    with pytest.raises(FleetError, match="digest"):
        parse_manifest(msgspec.json.encode(changed(blobs={**MANIFEST.blobs, role: blob})))


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_tensors_are_needed_on_both_sides(side: str) -> None:
    contract = msgspec.structs.replace(MANIFEST.contract, **{side: ()})
    with pytest.raises(MessageError, match="no inputs or no outputs"):
        parse_manifest(msgspec.json.encode(changed(contract=contract)))


def test_it_is_bounded_and_of_this_schema() -> None:
    with pytest.raises(MessageError) as caught:
        parse_manifest(b" " * (512 * 1024 + 1))
    assert caught.value.code == "message.too_large"
    with pytest.raises(MessageError) as caught:
        parse_manifest(msgspec.json.encode(changed(schema=3)))
    assert caught.value.code == "message.schema"
    long = msgspec.structs.replace(MANIFEST.contract, runtimes={"r" * 600_000: ""})
    with pytest.raises(MessageError):
        encode_manifest(changed(contract=long))


def test_a_role_of_a_newer_fleet_is_carried_as_unknown() -> None:
    raw = encode_manifest(MANIFEST).replace(b'"labels"', b'"heatmap"')
    assert Role.UNKNOWN in parse_manifest(raw).blobs


CRITICAL = ("preprocessing.colour", *(f"preprocessing.image.{name}" for name in ImageRules.__struct_fields__))


def test_a_manifest_that_older_readers_would_misread_says_so() -> None:
    """They read schema 1 only; what they would ignore is listed for those who come between."""
    assert (MANIFEST_2.schema, MANIFEST_2.critical) == (2, CRITICAL)
    assert parse_manifest(encode_manifest(MANIFEST_2)) == MANIFEST_2
    plain = compose_manifest(
        model=MANIFEST.model, version=MANIFEST.version, variant=MANIFEST.variant, contract=MANIFEST.contract,
        blobs=MANIFEST.blobs,
    )  # fmt: skip
    assert plain == MANIFEST
    assert b"critical" not in encode_manifest(plain)
    assert digest_of_manifest(plain) == DIGEST


def preprocessed(**rules: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(encode_manifest(MANIFEST_2))
    document["contract"]["preprocessing"]["image"].update(rules)
    return document


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"critical": [*CRITICAL, "preprocessing.image.rotate"]}, "manifest.critical", "image.rotate"),
        ({"critical": CRITICAL[1:]}, "manifest.critical", "colour"),
        ({"critical": []}, "manifest.critical", "pad"),
        ({"schema": 1}, "manifest.critical", "schema 2"),
        ({"schema": 3}, "message.schema", "1 to 2"),
        (preprocessed(resize="lanczos"), "manifest.preprocessing", "resize"),
        (preprocessed(fit="squeeze"), "manifest.preprocessing", "fit"),
        (preprocessed(layout="chwn"), "manifest.preprocessing", "layout"),
        (preprocessed(pad=256), "manifest.preprocessing", "256"),
        (preprocessed(mean=[1, 2]), "manifest.preprocessing", "2 numbers for 3 channels"),
        (preprocessed(std=[1, 0, 1]), "manifest.preprocessing", "above 0"),
    ],
)
def test_preprocessing_that_cannot_be_computed_exactly_is_refused(
    changes: dict[str, Any], code: str, words: str
) -> None:
    document = {**preprocessed(), **changes}
    with pytest.raises(MessageError, match=words) as caught:
        parse_manifest(msgspec.json.encode(document))
    assert caught.value.code == code
