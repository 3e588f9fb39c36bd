"""Which names a server's certificate gets."""

import socket

import pytest

from fleet_cloud.adapters.trust.hosts import find_hosts
from fleet_cloud.addresses import clean_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Fleet.Example", "fleet.example"),
        ("10.0.0.7", "10.0.0.7"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("0.0.0.0", None),
        ("::", None),
        ("", None),
        ("*.example", None),
        ("a b", None),
        ("-x", None),
        ("münchen.example", None),
        ("a" * 64, None),
    ],
)
def test_what_is_a_host(text: str, host: str | None) -> None:
    assert clean_host(text) == host


def test_a_machine_knows_itself_and_each_name_is_there_once() -> None:
    found = find_hosts(["fleet.example", "127.0.0.1", "0.0.0.0"])
    assert found[:3] == ["localhost", "127.0.0.1", "::1"]
    assert clean_host(socket.gethostname()) in found
    assert found.count("127.0.0.1") == found.count("fleet.example") == 1
