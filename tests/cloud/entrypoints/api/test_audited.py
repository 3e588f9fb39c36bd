"""Every change over the API is in the audit log: who, from where, what it was before and after."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Client

from fleet_cloud.domain.audit import find_break
from fleet_shared.names import DeviceId, Digest
from tests.cloud.entrypoints.api.test_routes import V1, draft
from tests.kit.api import Api, running_api
from tests.kit.people import BEARER


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[Client]:
    with Client(base_url=api.url, timeout=60, headers=BEARER) as client:
        yield client


def add_device(api: Api) -> None:
    from fleet_cloud.domain.device import Device

    with api.uow.begin() as transaction:
        transaction.devices.add(Device(DeviceId("pi-1"), 1, Digest("a" * 64), {"site": "berlin"}))


def entries(http: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"{V1}/audit").json()["items"]
    return found


def test_each_change_is_told_with_who_and_before_and_after(api: Api, http: Client) -> None:
    add_device(api)
    http.patch(f"{V1}/devices/pi-1/labels", json={"set": {"floor": "2"}, "remove": ["site"]})
    (entry,) = entries(http)
    assert (entry["actor"], entry["origin"]) == ("kit", "127.0.0.1")
    assert (entry["action"], entry["subject"]) == ("device.label", "pi-1")
    assert json.loads(entry["before"]) == {"site": "berlin"}
    assert json.loads(entry["after"]) == {"floor": "2"}


def test_every_kind_of_change_is_in_it(api: Api, http: Client) -> None:
    add_device(api)
    http.post(f"{V1}/enrolment-tokens", json={"labels": {"site": "berlin"}})
    http.post(f"{V1}/models/m/versions", json=draft(http, b"one"))
    http.post(f"{V1}/models/m/versions", json=draft(http, b"one"))  # changes nothing
    http.post(f"{V1}/rollouts", json={"model": "m", "selector": "all"})
    made = http.post(f"{V1}/tokens", json={"name": "ann", "role": "viewer", "life_s": 60}).json()
    http.delete(f"{V1}/tokens/ann")
    http.delete(f"{V1}/tokens/ann")  # changes nothing
    assert [entry["action"] for entry in entries(http)] == [
        "enrolment.token.create", "blob.put", "blob.put", "version.register", "rollout.create",
        "token.create", "token.revoke",
    ]  # fmt: skip
    assert made["secret"] not in http.get(f"{V1}/audit").text
    with api.uow.read() as transaction:
        assert find_break(transaction.audit.page(0, 100)) is None


def test_what_is_refused_is_not_in_it(http: Client) -> None:
    assert http.post(f"{V1}/rollouts", json={"model": "none", "selector": "all"}).status_code == 404
    assert http.patch(f"{V1}/devices/none/labels", json={"set": {"a": "b"}}).status_code == 404
    assert http.post(f"{V1}/tokens", json={"name": "a b", "role": "viewer"}).status_code == 422
    assert http.post(f"{V1}/tokens", json={"name": "ann", "role": "emperor"}).status_code == 422
    assert entries(http) == []


def test_it_is_read_in_pages(http: Client) -> None:
    for number in range(5):
        http.post(f"{V1}/tokens", json={"name": f"t{number}", "role": "viewer"})
    first = http.get(f"{V1}/audit", params={"limit": 3}).json()
    rest = http.get(f"{V1}/audit", params={"limit": 3, "after": first["next"]}).json()
    assert [entry["subject"] for entry in (*first["items"], *rest["items"])] == [f"t{n}" for n in range(5)]
    assert rest["next"] is None
