"""Names, versions, topics, tokens, files and encodings."""

from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fleet_shared.codec import Encoding, decode_blob, encode_blob
from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.durable import write_durably
from fleet_shared.errors import CodecError, InvalidName, InvalidTopic, TokenError
from fleet_shared.manifest import Contract, Golden, OpUse, Tensor
from fleet_shared.names import DeviceId, Digest, parse_device_id, parse_label
from fleet_shared.runtime_range import parse_runtime_version
from fleet_shared.token import EnrolmentToken
from fleet_shared.topics import Channel, Topics
from fleet_shared.version import ModelRef, Version

device_ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True).filter(
    lambda text: not text.startswith("ctl-")
)


@given(device_ids, st.sampled_from(Channel), st.sampled_from(["fleet/v1", "a", "a/b/c"]))
def test_a_topic_parses_back(device: str, channel: Channel, root: str) -> None:
    topics = Topics(root)
    topic = topics.device(DeviceId(device), channel)
    assert topics.parse(topic) == (parsed := topics.parse(topic))
    assert (parsed.device, parsed.channel) == (device, channel)
    assert topic.count("/") <= 7


@pytest.mark.parametrize(
    "topic",
    ["", "fleet/v1/devices/pi", "fleet/v1/devices/pi/desired/x", "fleet/v2/devices/pi/ack",
     "fleet/v1/devices/PI/ack", "fleet/v1/devices/+/ack", "fleet/v1/devices/pi/nonsense"],
)  # fmt: skip
def test_foreign_topics_are_refused(topic: str) -> None:
    with pytest.raises(InvalidTopic):
        Topics().parse(topic)


@pytest.mark.parametrize("root", ["", "/", "a//b", "a/b/c/d", "a/+", "$SYS"])
def test_bad_roots_are_refused(root: str) -> None:
    with pytest.raises(InvalidTopic):
        Topics(root)


@pytest.mark.parametrize("name", ["", "-pi", "Pi", "pi_1", "ctl-1", "p" * 64, "pi/1", "pi\n"])
def test_bad_device_ids_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        parse_device_id(name)


def test_labels_that_look_like_facts_are_refused() -> None:
    assert parse_label("site", "berlin") == ("site", "berlin")
    with pytest.raises(InvalidName, match="reserved"):
        parse_label("fact.runtime", "litert")


@given(st.tuples(*[st.integers(0, 10**8)] * 3), st.tuples(*[st.integers(0, 10**8)] * 3))
def test_versions_sort_as_numbers(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    first, second = Version(*a), Version(*b)
    assert Version.parse(str(first)) == first
    assert (first < second) == (a < b)


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.02.3", "v1.2.3", "1.2.3-rc1", "1.2.3.4", "-1.0.0"])
def test_bad_versions_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        Version.parse(text)


def test_a_model_reference_has_an_optional_version() -> None:
    assert ModelRef.parse("digits") == ("digits", None)
    assert ModelRef.parse("digits:1.4.0") == ("digits", (1, 4, 0))
    assert Version(1, 4, 2).next_minor() == (1, 5, 0)


def test_a_token_reads_back_and_a_damaged_one_is_refused_without_being_repeated() -> None:
    token = EnrolmentToken(secret="s3cret", ca_sha256=Digest("a" * 64), root_sha256=Digest("b" * 64))
    assert EnrolmentToken.parse(f" {token}\n") == token
    for damaged in ("", "hello", str(token)[:-9], str(token).replace("fleet1.", "fleet9."), "fleet1.@@@"):
        with pytest.raises(TokenError) as caught:
            EnrolmentToken.parse(damaged)
        assert "s3cret" not in caught.value.message


@given(st.binary(max_size=5000), st.sampled_from([Encoding.IDENTITY, Encoding.ZSTD]), st.integers(1, 700))
def test_an_encoding_gives_the_blob_back(content: bytes, encoding: Encoding, part: int) -> None:
    packed = encode_blob(encoding, content)
    parts = [packed[i : i + part] for i in range(0, len(packed), part)]
    assert b"".join(decode_blob(encoding, parts, len(content))) == content


def test_a_decoder_stops_at_the_promised_length() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(b"\0" * 50_000_000)
    assert len(bomb) < 10_000
    with pytest.raises(CodecError, match="more than the promised"):
        next(decode_blob(Encoding.ZSTD, [bomb], 1000))
    with pytest.raises(CodecError):
        list(decode_blob(Encoding.ZSTD, [bomb[:-20]], 50_000_000))
    with pytest.raises(CodecError, match="damaged"):
        list(decode_blob(Encoding.ZSTD, [b"no zstd at all"], 10))
    with pytest.raises(CodecError):
        list(decode_blob(Encoding.IDENTITY, [b"abc"], 4))


def test_a_durable_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_durably(path, b"old", mode=0o600)

    def broken() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_durably(path, broken())  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def contract(*ops: OpUse, runtimes: dict[str, str] | None = None) -> Contract:
    tensor = Tensor(name="x", dtype="int8", shape=(1, 2))
    return Contract(
        inputs=(tensor,),
        outputs=(tensor,),
        ops=ops,
        runtimes=runtimes or {"litert": ">=1.0", "tflite_runtime": ">=2.14"},
        memory_bytes=1,
        golden=Golden(samples=1, tolerance=0.1),
    )


def test_dynamic_range_per_channel_dense_is_refused_on_old_runtimes_whatever_its_version_says() -> None:
    lowered = OpUse(name="FULLY_CONNECTED", version=3, dtypes=("float32", "int8"), per_channel=True)
    static = OpUse(name="FULLY_CONNECTED", version=4, dtypes=("int8", "int8"), per_channel=True)
    newest = OpUse(name="FULLY_CONNECTED", version=12, dtypes=("float32", "int8"))
    for op in (lowered, newest):
        assert find_incompatibilities(contract(op), "tflite_runtime", "2.14.0")
        assert not find_incompatibilities(contract(op), "litert", "2.3.0")
    assert not find_incompatibilities(contract(static), "tflite_runtime", "2.14.0")


def test_a_runtime_that_is_older_or_not_in_the_contract_is_refused() -> None:
    assert find_incompatibilities(contract(), "tflite_runtime", "2.13.1")
    assert find_incompatibilities(contract(runtimes={"litert": ""}), "tflite_runtime", "2.14.0")
    assert not find_incompatibilities(contract(runtimes={"litert": ""}), "litert", "0.1")
    assert parse_runtime_version("2.14.0.post1") == (2, 14, 0)
