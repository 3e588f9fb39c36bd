"""The encoding codebook: any file comes back, what takes few values gets short, damage is said."""

import contextlib
import hashlib
import lzma
import math
import random
import struct
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_shared.codec import Encoding, decode_blob, encode_blob
from fleet_shared.codec.codebook import reading as reading_module
from fleet_shared.codec.codebook import stretches as stretches_module
from fleet_shared.codec.codebook.adaptive import AdaptiveModel, sign_contexts, size_contexts
from fleet_shared.codec.codebook.alphabet import Alphabet, find_alphabet
from fleet_shared.codec.codebook.form import GROUP_WORK, MAGIC, NEW, PIECE_WORK
from fleet_shared.codec.codebook.numbers import write_number
from fleet_shared.codec.codebook.rest import pack as pack_rest
from fleet_shared.codec.codebook.static import ONE, StaticModel, find_shares
from fleet_shared.codec.codebook.stretches import find_stretches
from fleet_shared.codec.codebook.tree import build_tree
from fleet_shared.codec.codebook.work import Work
from fleet_shared.errors import CodecError
from fleet_shared.limits import CODEBOOK_BYTES
from tests.kit.weights import clustered, pruned_int8


def pack(content: bytes) -> bytes:
    return encode_blob(Encoding.CODEBOOK, content)


def unpack(packed: bytes, size: int, part: int = 1 << 20) -> bytes:
    parts = (packed[at : at + part] for at in range(0, len(packed), part))
    return b"".join(decode_blob(Encoding.CODEBOOK, parts, size))


def entropy_bytes(values: list[bytes]) -> float:
    counts = Counter(values)
    return sum(count * math.log2(len(values) / count) for count in counts.values()) / 8


def words(content: bytes, width: int) -> list[bytes]:
    return [content[at : at + width] for at in range(0, len(content), width)]


@given(st.binary(max_size=3000), st.integers(1, 900))
@settings(max_examples=60, deadline=None)
def test_any_bytes_come_back(content: bytes, part: int) -> None:
    assert unpack(pack(content), len(content), part) == content


@given(
    st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=300),
    st.integers(0, 5000),
    st.binary(max_size=50),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_words_that_repeat_come_back_wherever_they_lie(
    entries: list[bytes], count: int, before: bytes, seed: int
) -> None:
    draw = random.Random(seed)
    content = before + b"".join(draw.choices(entries, k=count)) + before[::-1]
    assert unpack(pack(content), len(content)) == content


@pytest.mark.parametrize(
    ("content", "width", "share"),
    [
        (clustered(30_000, 1), 4, 0.9),
        (clustered(30_000, 2, zeros=0.8, entries=15), 4, 0.8),
        (pruned_int8(40_000, 3, 0.5), 1, 1.0),
        (pruned_int8(40_000, 4, 0.9), 1, 0.9),
    ],
)
def test_it_comes_within_two_percent_of_the_entropy_and_beats_the_others(
    content: bytes, width: int, share: float
) -> None:
    packed = pack(content)
    assert unpack(packed, len(content)) == content
    values = words(content, width)
    table = width * len(set(values)) if width > 1 else 0
    assert len(packed) <= 1.02 * entropy_bytes(values) + table + 40
    xz = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    others = min(len(xz), len(encode_blob(Encoding.ZSTD, content)))
    assert len(packed) < others * share


def test_neighbours_make_it_shorter_than_the_entropy() -> None:
    """Rows of small and of large weights, as the channels of a layer are."""
    draw = random.Random(5)
    scales = [draw.choice([2, 40]) for _ in range(200)]
    content = bytes(round(draw.gauss(0, scale)) % 256 for scale in scales for _ in range(150))
    assert len(pack(content)) < 0.93 * entropy_bytes(words(content, 1))
    assert unpack(pack(content), len(content)) == content


def test_floats_that_take_many_values_are_no_worse_than_by_zstd() -> None:
    draw = random.Random(6)
    content = b"".join(struct.pack("<f", draw.gauss(0, 0.1)) for _ in range(20_000))
    assert find_stretches(content) == []
    assert len(pack(content)) < len(encode_blob(Encoding.ZSTD, content))


def test_the_same_content_gives_the_same_bytes_however_it_was_cut() -> None:
    content = clustered(5000, 7)
    assert pack(content) == pack(bytes(content))
    with pytest.raises(CodecError, match="announced"):
        list(encode_in_two(content, len(content) + 1))


def encode_in_two(content: bytes, size: int) -> list[bytes]:
    from fleet_shared.codec import encode_parts

    return list(encode_parts(Encoding.CODEBOOK, [content[:100], content[100:]], size))


def test_too_much_is_refused_on_both_sides() -> None:
    with pytest.raises(CodecError, match="at most"):
        encode_in_two(b"", CODEBOOK_BYTES + 1)
    with pytest.raises(CodecError, match="at most"):
        unpack(b"FCB\x01" + b"\xff\xff\xff\xff\x0f", 1 << 40)


def test_large_stretches_take_the_static_coder_and_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches_module, "CODEBOOK_WORK", 250_000)
    content = clustered(20_480, 8) + pruned_int8(1_100_000, 9, 0.6)
    kinds = {type(stretch.model) for stretch in find_stretches(content)}
    assert kinds == {AdaptiveModel, StaticModel}
    packed = pack(content)
    assert unpack(packed, len(content), 1000) == content
    assert len(packed) < 1.02 * entropy_bytes(words(content[81_920:], 1)) + 16_000


def test_the_work_of_a_device_is_bounded() -> None:
    model = AdaptiveModel(find_alphabet(Counter({b"\0": 1, b"\1": 1}), 1), by_size=False, by_sign=False)
    work = Work(999)
    with pytest.raises(CodecError, match="more work"):
        model.decode(b"", 1000, 1, work)


@pytest.fixture(scope="module")
def small() -> tuple[bytes, bytes]:
    content = (
        b"head" * 9
        + clustered(400, 10, zeros=0.5, entries=9)
        + b"tail and more of it"
        + pruned_int8(900, 11, 0.7)
    )
    return content, pack(content)


def test_every_truncation_is_said(small: tuple[bytes, bytes]) -> None:
    content, packed = small
    for size in range(len(packed)):
        with pytest.raises(CodecError):
            unpack(packed[:size], len(content))
    with pytest.raises(CodecError, match="follow"):
        unpack(packed + b"\0", len(content))


def test_every_flipped_bit_gives_an_error_or_as_many_bytes(small: tuple[bytes, bytes]) -> None:
    content, packed = small
    said = 0
    for bit in range(len(packed) * 8):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert len(unpack(bytes(damaged), len(content))) == len(content)
        except CodecError:
            said += 1
    assert said > len(packed)


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_anything_else_is_refused(noise: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(b"FCB\x01" + noise, 100_000_000)


@given(st.integers(1, 256), st.data())
@settings(max_examples=50, deadline=None)
def test_a_tree_leads_to_every_entry_once(count: int, data: st.DataObject) -> None:
    centre = data.draw(st.integers(0, count - 1))
    alphabet = Alphabet(2, tuple(struct.pack("<H", at) for at in range(count)), centre)
    tree = build_tree(alphabet)
    paths = tree.paths()
    assert sorted(paths) == list(range(count))
    assert len(tree.kinds) == count - 1
    assert len(paths[centre]) == min(1, count - 1)


@given(st.binary(min_size=1, max_size=600), st.integers(1, 40), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_adaptive_coder_gives_back_what_it_got(
    symbols: bytes, row: int, by_size: bool, by_sign: bool
) -> None:
    alphabet = find_alphabet(Counter(bytes([one]) for one in symbols), 1)
    places = bytes(alphabet.entries.index(bytes([one])) for one in symbols)
    writer, reader = (AdaptiveModel(alphabet, by_size, by_sign) for _ in range(2))
    work = Work(1_000_000)
    for part in (places[:250], places[250:]):  # the second goes on with what the first taught
        assert reader.decode(writer.encode(part, row), len(part), row, work) == part
    assert reader.quick == writer.quick
    assert reader.slow == writer.slow


@given(st.binary(min_size=1, max_size=600))
@settings(max_examples=60, deadline=None)
def test_the_static_coder_gives_back_what_it_got(symbols: bytes) -> None:
    counts = Counter(bytes([one]) for one in symbols)
    alphabet = find_alphabet(counts, 1)
    shares = find_shares(alphabet, counts)
    assert sum(shares) == ONE
    assert all(share > 0 for share in shares)
    model = StaticModel(alphabet, shares)
    places = bytes(alphabet.entries.index(bytes([one])) for one in symbols)
    assert model.decode(model.encode(places, 1), len(places), 1, Work(0)) == places


def test_contexts_look_back_only() -> None:
    """Brute force over the definition."""
    draw = random.Random(12)
    sizes, signs = bytes(draw.choices(range(200), k=300)), bytes(draw.choices(range(3), k=300))
    for row in (1, 7, 400):
        expected_sizes, expected_signs = [], []
        for at in range(300):
            near = sum(sizes[max(0, at - 16) : at])
            far = sum(sizes[at - back * row] for back in (1, 2, 3) if at >= back * row)
            expected_sizes.append(min(9, near.bit_length()) * 10 + min(9, far.bit_length()))
            last, above = signs[at - 1] if at else 0, signs[at - row] if at >= row else 0
            expected_signs.append(last * 3 + above)
        assert size_contexts(sizes, row) == expected_sizes
        assert sign_contexts(signs, row) == expected_signs


def test_no_chance_reaches_certainty() -> None:
    alphabet = find_alphabet(Counter({b"\0": 1, b"\1": 1}), 1)
    for answer in (0, 1):
        model = AdaptiveModel(alphabet, by_size=False, by_sign=False)
        model.encode(bytes([answer]) * 20_000, 1)
        assert 100 < (model.quick[0] + model.slow[0]) // 2 < (1 << 20) - 100
        assert min(model.slow[0], (1 << 20) - model.slow[0]) < 500, "and yet it comes near"


NO_VALUES = write_number(0) + write_number(1) + write_number(0)
"""The gap, the row and the values of a piece that has none."""
PLAIN_BYTE = write_number(1) + write_number(1) + write_number(0) + b"\0"
"""The alphabet of one byte."""
DIGEST_OF_GOLDEN = "5afe8d7a3535c9f04c9ae74085b73ca4f40ea931f2e9bd4cbcf0f5f8bca6265b"


def group(size: int, head: bytes, rest: bytes, codes: bytes = b"") -> bytes:
    packed = pack_rest(head + rest)
    return b"".join(map(write_number, (size, len(head), len(head) + len(rest), len(packed)))) + packed + codes


def long_zero() -> bytes:
    return b"\x80\x80\x80\x80\0"


def hostile_pieces(count: int, kind: bytes, again: bytes, code: bytes) -> bytes:
    """A file of one byte that has so many pieces without values."""
    rest_of_piece = NO_VALUES + write_number(len(code))
    pieces = write_number(NEW) + kind + rest_of_piece + (again + rest_of_piece) * (count - 1)
    return MAGIC + write_number(1) + group(1, write_number(count) + pieces, b"x", code * count)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(
            hostile_pieces(16_384, write_number(4) + PLAIN_BYTE + write_number(ONE), b"\0", b"\1\0\0\0"),
            id="tables of pieces without values",
        ),
        pytest.param(
            hostile_pieces(16_384, write_number(0) + PLAIN_BYTE, long_zero(), b""), id="long numbers"
        ),
        pytest.param(
            MAGIC + write_number(5000) + group(1, write_number(0), b"x") * 5000, id="groups of one byte"
        ),
        pytest.param(
            MAGIC + write_number(400) + group(1, b"\0" * (1 << 20), b"x") * 400, id="heads of a mebibyte"
        ),
    ],
)
def test_what_is_made_to_be_slow_ends_soon(packed: bytes) -> None:
    """Each took minutes to hours of a small device, for some hundred kilobytes on the wire."""
    began_s = time.process_time()
    with contextlib.suppress(CodecError):
        unpack(packed, CODEBOOK_BYTES)
    assert time.process_time() - began_s < 2.5


def test_groups_and_pieces_do_not_come_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one_group = group(1, write_number(0), b"x")
    monkeypatch.setattr(reading_module, "CODEBOOK_WORK", 3 * GROUP_WORK)
    assert unpack(MAGIC + write_number(3) + one_group * 3, 3) == b"xxx"
    with pytest.raises(CodecError, match="more work"):
        unpack(MAGIC + write_number(4) + one_group * 4, 4)
    with pytest.raises(CodecError, match="more work"):
        unpack(hostile_pieces(3 * GROUP_WORK // PIECE_WORK, write_number(0) + PLAIN_BYTE, b"\0", b""), 1)


def test_a_head_ends_with_its_last_piece() -> None:
    with pytest.raises(CodecError, match="last piece"):
        unpack(MAGIC + write_number(1) + group(1, b"\0" * 5, b"x"), 1)


@pytest.mark.parametrize("work", [30_000, 60_000, 61_111, 200_000])
def test_what_is_packed_never_asks_for_more_work_than_a_device_does(
    work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Static stretches take work too, however much of it the adaptive ones leave."""
    monkeypatch.setattr(stretches_module, "CODEBOOK_WORK", work)
    monkeypatch.setattr(reading_module, "CODEBOOK_WORK", work)
    monkeypatch.setattr(stretches_module, "STRETCHES_MAX", 12)
    filler = random.Random(1).randbytes(8192)
    content = b"".join(clustered(5_000 + 40 * at, at) + filler for at in range(20))
    assert unpack(pack(content), len(content)) == content
    assert len(find_stretches(content)) <= 12


def test_files_of_before_still_decode() -> None:
    """Never made anew: devices in the field are sent what was packed years ago, by whatever Python."""
    packed = (Path(__file__).parent / "golden" / "codebook-1.bin").read_bytes()
    content = unpack(packed, 96_000)
    assert hashlib.sha256(content).hexdigest() == DIGEST_OF_GOLDEN
