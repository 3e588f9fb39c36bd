"""Names at their limits: the last that is taken, the first that is refused."""

from collections.abc import Callable

import pytest

from fleet_shared.errors import InvalidName
from fleet_shared.names import (
    digest_of,
    parse_device_id,
    parse_digest,
    parse_label,
    parse_model_name,
    parse_variant_name,
)

Parse = Callable[[str], str]


@pytest.mark.parametrize("name", ["p", "0", "p" * 63, "pi-1", "a--b", "ctl", "ctl1", "my-ctl-1"])
def test_good_device_ids(name: str) -> None:
    assert parse_device_id(name) == name


@pytest.mark.parametrize("name", ["ctl-", "ctl-1", "p" * 64, "pi.1", "pi 1", "é", "pi-1\n"])
def test_bad_device_ids(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        parse_device_id(name)
    assert caught.value.code == "name.invalid"
    assert repr(name) in caught.value.message
    assert "63" in caught.value.hint


@pytest.mark.parametrize("parse", [parse_model_name, parse_variant_name])
def test_names_of_models_and_variants(parse: Parse) -> None:
    for good in ("m", "0", "m" * 64, "int8-pruned", "a.b_c"):
        assert parse(good) == good
    for bad in ("", "m" * 65, "M", "-m", ".m", "_m", "a/b", "a b", "a:b", "m\n"):
        with pytest.raises(InvalidName):
            parse(bad)


def test_keys_of_labels() -> None:
    for good in ("k", "k" * 63, "0", "a/b", "a.b_c-d", "fact", "facts.x"):
        assert parse_label(good, "v") == (good, "v")
    for bad in ("", "k" * 64, "K", "-k", "a=b", "k\n", "fact.runtime", "fact."):
        with pytest.raises(InvalidName):
            parse_label(bad, "v")


def test_values_of_labels() -> None:
    for good in ("v", "v" * 63, "0", "Berlin", "v1.2_x-y"):
        assert parse_label("k", good) == ("k", good)
    for bad in ("", "v" * 64, "-v", ".v", "a/b", "a b", "ü", "v\n"):
        with pytest.raises(InvalidName, match="'k'"):
            parse_label("k", bad)


def test_digests() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_of(b"") == empty
    assert parse_digest(empty) == empty
    for bad in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"):
        with pytest.raises(InvalidName):
            parse_digest(bad)
