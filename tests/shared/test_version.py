"""Version numbers and references to models at their limits."""

import pytest

from fleet_shared.errors import InvalidName
from fleet_shared.version import FIRST, ModelRef, Version


def test_a_number_has_at_most_nine_digits() -> None:
    assert Version.parse("999999999.0.10") == (999_999_999, 0, 10)
    for bad in (
        "1000000000.0.0",
        "0.1000000000.0",
        "0.0.1000000000",
        "1.0.0\n",
        "01.0.0",
        "1.00.0",
        "1.0.00",
    ):
        with pytest.raises(InvalidName) as caught:
            Version.parse(bad)
        assert caught.value.hint


def test_the_next_minor_version_starts_at_patch_zero() -> None:
    assert FIRST == (1, 0, 0)
    assert Version(2, 9, 7).next_minor() == (2, 10, 0)


def test_a_colon_demands_a_version() -> None:
    for bad in ("digits:", ":1.0.0", ":", "", "digits:1.0", "digits::1.0.0", "digits:1.0.0:1.0.0"):
        with pytest.raises(InvalidName):
            ModelRef.parse(bad)


@pytest.mark.parametrize("text", ["digits", "digits:1.4.0"])
def test_a_reference_is_written_as_it_was_read(text: str) -> None:
    assert str(ModelRef.parse(text)) == text
