"""Documents and bytes: sizes to the byte, schemas, texts that must travel."""

from typing import ClassVar

import msgspec
import pytest

from fleet_shared.errors import MessageError
from fleet_shared.messages.telemetry import Source, TelemetryBatch, decode_row, encode_row
from fleet_shared.wire import Document, clip, decode, encode
from tests.shared.messages.samples import ROWS

EVENT = ROWS[1]


class Small(Document, frozen=True, kw_only=True):
    LIMIT_BYTES: ClassVar[int] = 40

    text: str


AROUND = len(msgspec.json.encode(Small(text="")))


def test_a_document_may_be_as_long_as_its_limit_and_no_byte_longer() -> None:
    longest = Small(text="x" * (40 - AROUND))
    assert len(encode(longest)) == 40
    assert decode(Small, encode(longest)) == longest
    for work in (
        lambda: encode(Small(text="x" * (41 - AROUND))),
        lambda: decode(Small, encode(longest) + b" "),
    ):
        with pytest.raises(MessageError) as caught:
            work()
        assert caught.value.code == "message.too_large"
        assert "41 bytes" in caught.value.message


@pytest.mark.parametrize("schema", [0, 2])
def test_another_schema_is_refused(schema: int) -> None:
    with pytest.raises(MessageError) as caught:
        decode(Small, f'{{"schema":{schema},"text":""}}'.encode())
    assert caught.value.code == "message.schema"


def test_a_row_has_at_most_8_kib() -> None:
    around = len(encode_row(msgspec.structs.replace(EVENT, detail={"x": ""})))
    longest = msgspec.structs.replace(EVENT, detail={"x": "y" * (8192 - around)})
    assert len(encode_row(longest)) == 8192
    assert decode_row(encode_row(longest)) == longest
    with pytest.raises(MessageError):
        encode_row(msgspec.structs.replace(EVENT, detail={"x": "y" * (8193 - around)}))


RAW = msgspec.Raw(encode_row(EVENT))
BATCH = TelemetryBatch(stream="s", start=2, oldest=4, first=6, last=8, head=9, rows=(RAW,))


@pytest.mark.parametrize(
    "numbers",
    [{"start": 0}, {"start": 5}, {"oldest": 1}, {"oldest": 7}, {"first": 3}, {"first": 9}, {"last": 5},
     {"last": 10}, {"head": 7}, {"start": -1}],
)  # fmt: skip
def test_the_numbers_of_a_batch_are_in_order(numbers: dict[str, int]) -> None:
    raw = msgspec.json.encode(BATCH)
    assert decode(TelemetryBatch, raw) == BATCH
    document = {**msgspec.json.decode(raw), **numbers}
    with pytest.raises(MessageError):
        decode(TelemetryBatch, msgspec.json.encode(document))


def test_all_numbers_of_a_batch_may_be_the_same() -> None:
    alone = TelemetryBatch(stream="s", start=1, oldest=1, first=1, last=1, head=1, rows=(RAW,))
    assert decode(TelemetryBatch, encode(alone)) == alone


def test_a_batch_has_1_to_200_rows() -> None:
    document = msgspec.json.decode(msgspec.json.encode(BATCH))
    for count, fits in ((0, False), (1, True), (200, True), (201, False)):
        raw = msgspec.json.encode({**document, "rows": [1] * count})
        if fits:
            assert len(decode(TelemetryBatch, raw).rows) == count
        else:
            with pytest.raises(MessageError):
                decode(TelemetryBatch, raw)


def test_an_enum_reads_an_unknown_word_as_unknown_and_nothing_else() -> None:
    assert msgspec.json.decode(b'"camera"', type=Source) is Source.UNKNOWN
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"7", type=Source)


def test_texts_are_clipped_to_what_can_be_stored() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 5) == "ab…"
    assert clip("a\0\nb\x7f", 5) == "a  b "
    assert clip("\udcff", 3) == "?"
    assert clip("éé", 4) == "éé"
    assert clip("ééé", 5) == "é…", "a character is never cut in two"
    assert clip("\U0001f600" * 9, 8) == "\U0001f600…"
