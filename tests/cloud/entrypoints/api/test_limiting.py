"""Buckets of allowances: never more than the rate and what may be used at once, whatever is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_cloud.addresses import network_of
from fleet_cloud.entrypoints.api.limiting import KEPT_MAX, Bucket, Limits, take
from fleet_cloud.errors import TooMany


@given(
    waits_s=st.lists(st.floats(min_value=0, max_value=10), max_size=200),
    rate_per_s=st.floats(min_value=0.1, max_value=100),
    at_once=st.floats(min_value=1, max_value=50),
)
def test_no_span_of_time_lets_more_through_than_it_may(
    waits_s: list[float], rate_per_s: float, at_once: float
) -> None:
    bucket: Bucket | None = None
    now_s, passed = 0.0, 0
    for wait_s in waits_s:
        now_s += wait_s
        bucket, refused_s = take(bucket, now_s, rate_per_s, at_once)
        passed += not refused_s
        assert passed <= at_once + now_s * rate_per_s + 1e-6


def test_whoever_waits_as_told_is_let_in() -> None:
    bucket: Bucket | None = None
    for _ in range(3):
        bucket, wait_s = take(bucket, 0.0, 2.0, 3.0)
        assert wait_s == 0
    bucket, wait_s = take(bucket, 0.0, 2.0, 3.0)
    assert wait_s == 0.5
    assert take(bucket, wait_s, 2.0, 3.0)[1] == 0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket, _ = take(None, 100.0, 1.0, 1.0)
    assert take(bucket, 50.0, 1.0, 1.0)[1] == 1.0


def test_each_has_his_own_bucket_and_all_of_them_have_bounded_room() -> None:
    limits = Limits(per_token_s=0.1, per_address_s=0.1, monotonic_s=lambda: 0.0)
    limits.admit_token("ann")
    limits.admit_token("bob")
    with pytest.raises(TooMany) as caught:
        limits.admit_token("ann")
    assert caught.value.wait_s == 10
    for number in range(KEPT_MAX + 10):
        limits.admit_token(f"token-{number}")
    assert len(limits._buckets) == KEPT_MAX


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_a_whole_network_of_ipv6_is_one_customer(address: str, network: str) -> None:
    assert network_of(address) == network
