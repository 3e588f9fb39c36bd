"""The client: what it quotes, refuses, and never repeats."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_cloud.client import client as client_module
from fleet_cloud.errors import CloudError, Invalid, NotFound, Unavailable
from fleet_shared.errors import FleetError, InvalidName
from tests.kit.api import Api, running_api
from tests.kit.packages import make_package, register
from tests.kit.people import KIT_TOKEN
from tests.kit.ports import free_port


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, KIT_TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "name", ["x/../d1", "", ".", "..", "d1/telemetry", "d1?x", "d1#x", "d1\n", "d1%00", "ä"]
)
def test_a_name_is_one_word_of_the_path(client: Client, name: str) -> None:
    for call in (client.device, client.versions, client.totals):
        with pytest.raises(InvalidName if name in ("", ".", "..") or "/" in name else FleetError) as caught:
            call(name)
        assert caught.value.code == "name.invalid"
        assert caught.value.hint


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_hears_what_is_for_this_machine(
    api: Api, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    with Client(api.url, KIT_TOKEN) as client:
        assert client.whoami().role == "admin"


def test_unknown_things_are_not_found(client: Client) -> None:
    for call in (client.rollout, client.history, client.device, client.versions):
        with pytest.raises(NotFound):
            call("d1")


def test_lists_are_followed_to_their_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 1)
    for name in ("a", "b", "c"):
        register(client, name, make_package())
    register(client, "b", make_package(seed=2))
    assert [version.model for version in client.models()] == ["a", "b", "c"]
    assert [version.version for version in client.versions("b")] == ["1.1.0", "1.0.0"]
    assert client.rollouts() == []
    assert list(client.devices()) == []


@pytest.mark.parametrize("token", ["hush\r", "hush\n", "hu sh", "hüsh", "hush\0"])
def test_a_token_that_cannot_travel_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(Invalid) as caught:
        Client("http://127.0.0.1:1", token)
    assert caught.value.code == "api.token"
    assert "sh" not in caught.value.message.replace("is not printable", "")


@pytest.mark.parametrize(
    "server", ["nonsense", "ftp://u:hush@h", "http://u:hu[sh@h:x", "http://h:99999", "http://\0"]
)
def test_a_bad_server_is_no_defect_and_keeps_its_password(server: str) -> None:
    with pytest.raises(CloudError) as caught, Client(server) as client:
        client.health()
    assert caught.value.code in ("controller.address", "controller.unreachable")
    assert "hu" not in caught.value.message


def test_a_controller_that_is_away(api: Api) -> None:
    with Client(f"http://u:hush@127.0.0.1:{free_port()}") as client, pytest.raises(Unavailable) as caught:
        client.health()
    assert caught.value.code == "controller.unreachable"
    assert "hush" not in caught.value.message
