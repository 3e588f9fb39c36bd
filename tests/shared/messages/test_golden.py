"""Golden files: what a released version wrote is read for ever."""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fleet_shared
from fleet_shared.errors import MessageError
from fleet_shared.limits import KIB
from fleet_shared.messages.desired import Desired
from fleet_shared.messages.enrolment import EnrolReply, EnrolRequest
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Reported
from fleet_shared.messages.telemetry import Ack, TelemetryBatch, decode_row
from fleet_shared.messages.update import UpdateState
from fleet_shared.topics import Channel
from fleet_shared.wire import Document, decode, encode
from tests.shared.messages.samples import MODEL_ROW, ROWS, SAMPLES

GOLDEN = Path(__file__).with_name("golden") / "v1"


def test_every_message_has_a_golden_file() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(SAMPLES)


def find_documents() -> set[type[Document]]:
    """Return every kind of document that the protocol package defines."""
    for module in pkgutil.walk_packages(fleet_shared.__path__, "fleet_shared."):
        importlib.import_module(module.name)
    return {kind for kind in Document.__subclasses__() if kind.__module__.startswith("fleet_shared.")}


def test_every_kind_of_document_has_a_sample() -> None:
    assert {type(sample) for sample in SAMPLES.values()} == find_documents()


PAYLOADS: dict[Channel, type[Document]] = {
    Channel.PRESENCE: Presence,
    Channel.REPORTED: Reported,
    Channel.DESIRED: Desired,
    Channel.TELEMETRY: TelemetryBatch,
    Channel.ACK: Ack,
    Channel.FETCH: Fetch,
    Channel.CHUNK: Chunk,
}


def test_every_channel_has_its_document_and_fits_the_broker() -> None:
    """A desired document travels in an envelope: base64 makes it longer by a third."""
    assert set(PAYLOADS) == set(Channel)
    limits = {channel.value: kind.LIMIT_BYTES for channel, kind in PAYLOADS.items()}
    assert limits == {
        "presence": 1 * KIB, "reported": 64 * KIB, "desired": 64 * KIB, "telemetry": 96 * KIB,
        "ack": 32 * KIB, "fetch": 4 * KIB, "chunk": 100 * KIB,
    }  # fmt: skip
    assert max(limits.values()) < 128 * KIB
    assert limits["desired"] * 4 / 3 + 4 * KIB < 128 * KIB
    assert EnrolRequest.LIMIT_BYTES == EnrolReply.LIMIT_BYTES == 256 * KIB


def parsed(document: Document) -> Document:
    """Return the document with its rows parsed: two ways to write a row are the same row."""
    if not isinstance(document, TelemetryBatch):
        return document
    return msgspec.structs.replace(document, rows=tuple(decode_row(raw) for raw in document.rows))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_file_is_the_sample(name: str) -> None:
    read = decode(type(SAMPLES[name]), (GOLDEN / f"{name}.json").read_bytes().strip())
    assert parsed(read) == parsed(SAMPLES[name])


def is_part(older: Any, newer: Any) -> bool:
    """Whether ``newer`` says all that ``older`` says, and at most has further fields."""
    if isinstance(older, dict):
        return isinstance(newer, dict) and all(
            key in newer and is_part(value, newer[key]) for key, value in older.items()
        )
    if isinstance(older, list):
        return (
            isinstance(newer, list)
            and len(older) == len(newer)
            and all(is_part(a, b) for a, b in zip(older, newer, strict=True))
        )
    return bool(older == newer)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_file_reads_as_the_sample_and_writes_the_same(name: str) -> None:
    raw = (GOLDEN / f"{name}.json").read_bytes().strip()
    written = json.loads(encode(decode(type(SAMPLES[name]), raw)))
    assert written == json.loads(encode(SAMPLES[name]))
    assert is_part(json.loads(raw), written)


@pytest.mark.parametrize("name", SAMPLES)
def test_unknown_fields_are_ignored_and_another_schema_is_refused(name: str) -> None:
    document = json.loads((GOLDEN / f"{name}.json").read_bytes())
    newer = json.dumps({**document, "added_later": {"x": 1}}).encode()
    assert is_part(document, json.loads(encode(decode(type(SAMPLES[name]), newer))))
    with pytest.raises(MessageError) as caught:
        decode(
            type(SAMPLES[name]), json.dumps({**document, "schema": type(SAMPLES[name]).SCHEMA + 1}).encode()
        )
    assert caught.value.code == "message.schema"


@pytest.mark.parametrize("name", SAMPLES)
def test_too_long_and_damaged_messages_are_refused(name: str) -> None:
    kind = type(SAMPLES[name])
    with pytest.raises(MessageError) as caught:
        decode(kind, b" " * (kind.LIMIT_BYTES + 1))
    assert caught.value.code == "message.too_large"
    for damaged in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000):
        with pytest.raises(MessageError):
            decode(kind, damaged)


def test_an_unknown_enum_value_reads_as_unknown() -> None:
    document = json.loads((GOLDEN / "reported.json").read_bytes())
    document["update"]["state"] = "teleporting"
    reported = decode(type(SAMPLES["reported"]), json.dumps(document).encode())
    assert reported.update.state is UpdateState.UNKNOWN  # type: ignore[attr-defined]


def test_rows_read_back() -> None:
    batch = decode(TelemetryBatch, encode(SAMPLES["telemetry"]))
    assert tuple(decode_row(raw) for raw in batch.rows) == ROWS
    model = decode(TelemetryBatch, encode(SAMPLES["telemetry-model"]))
    assert tuple(decode_row(raw) for raw in model.rows) == (MODEL_ROW,)
