"""What `fleet serve` listens on, and what it says when it cannot."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_cloud.entrypoints.serve import Addresses, _listen, serve
from fleet_cloud.errors import SettingsError
from fleet_cloud.settings import Settings


def refusal(settings: Settings) -> SettingsError:
    with pytest.raises(SettingsError) as caught, _listen(settings):
        pass
    assert caught.value.hint
    return caught.value


def test_a_port_in_use_is_told_from_an_address_that_is_not_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert refusal(Settings(port=taken.getsockname()[1])).code == "port.in_use"
    assert refusal(Settings(host="203.0.113.1", port=0)).code == "port.refused"
    assert refusal(Settings(host="no such host", port=0)).code == "port.refused"
    assert refusal(Settings(host="x" * 300, port=0)).code == "port.refused"


def test_ipv6_is_listened_on() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 address")
    with _listen(Settings(host="::1", port=0)) as listener:
        assert listener.family is socket.AF_INET6


def test_addresses_that_are_printed_hold_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole start, ended as soon as it is up."""
    seen: list[Addresses] = []

    class Up(Exception):
        pass

    def ready(addresses: Addresses) -> None:
        seen.append(addresses)
        raise Up

    database = f"sqlite:///{tmp_path}/fleet.db?timeout=5"
    settings = Settings(data=str(tmp_path), port=0, broker_port=0, database=database)
    with pytest.raises(Up):
        serve(settings, ready)
    (addresses,) = seen
    assert addresses.api.startswith("http://127.0.0.1:")
    assert addresses.broker.endswith("(embedded)")
    assert addresses.blobs == f"{tmp_path}/blobs"


def test_who_opens_the_api_to_others_and_not_the_broker_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Up(Exception):
        pass

    def ready(_addresses: Addresses) -> None:
        raise Up

    opened = Settings(port=0, broker_port=0, host="0.0.0.0", api_token="hush")
    for number, broker_host in enumerate(("127.0.0.1", "0.0.0.0")):
        caplog.clear()
        with pytest.raises(Up):
            serve(replace(opened, data=str(tmp_path / str(number)), broker_host=broker_host), ready)
        assert ("--broker-host" in caplog.text) == (broker_host == "127.0.0.1")
