"""Wrong secrets are counted by where they come from, and memory has its bound."""

import pytest

from fleet_cloud.errors import Forbidden
from fleet_cloud.services.attempts import ORIGINS_MAX, WINDOW_MS, WRONG_MAX, Attempts


def is_open(attempts: Attempts, origin: str, now_ms: int = 0) -> bool:
    try:
        attempts.check(origin, now_ms)
    except Forbidden:
        return False
    return True


def test_the_last_allowed_one_is_allowed() -> None:
    attempts = Attempts()
    for count in range(WRONG_MAX):
        assert is_open(attempts, "10.0.0.1"), count
        attempts.wrong("10.0.0.1", 0)
    assert not is_open(attempts, "10.0.0.1", WINDOW_MS - 1)
    assert is_open(attempts, "10.0.0.1", WINDOW_MS)
    attempts.wrong("10.0.0.1", WINDOW_MS)
    assert is_open(attempts, "10.0.0.1", WINDOW_MS)


@pytest.mark.parametrize(
    ("other", "same"),
    [("2001:db8::2", True), ("2001:db8:0:1::1", False), ("10.0.0.1", False), ("not an address", False)],
)
def test_a_network_of_one_owner_counts_as_one(other: str, same: bool) -> None:
    attempts = Attempts()
    for _ in range(WRONG_MAX):
        attempts.wrong("2001:db8::1", 0)
    assert is_open(attempts, other) is not same


def test_whoever_guesses_over_ipv4_shuts_no_door_for_the_rest_of_it() -> None:
    """A socket or a proxy of IPv6 writes such addresses in that of IPv6."""
    attempts = Attempts()
    for _ in range(WRONG_MAX):
        attempts.wrong("::ffff:10.0.0.1", 0)
    assert not is_open(attempts, "10.0.0.1")
    assert is_open(attempts, "::ffff:10.0.0.2")


def test_who_comes_from_everywhere_fills_no_memory() -> None:
    attempts = Attempts()
    for number in range(ORIGINS_MAX + 100):
        attempts.wrong(f"origin-{number}", 0)
    assert len(attempts._wrong) == ORIGINS_MAX
