"""Golden files: what a released version wrote is read for ever."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_shared.errors import MessageError
from fleet_shared.messages.telemetry import TelemetryBatch, decode_row
from fleet_shared.messages.update import UpdateState
from fleet_shared.wire import decode, encode
from tests.shared.messages.samples import ROWS, SAMPLES

GOLDEN = Path(__file__).with_name("golden") / "v1"


def test_every_message_has_a_golden_file() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(SAMPLES)


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
        decode(type(SAMPLES[name]), json.dumps({**document, "schema": 2}).encode())
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
