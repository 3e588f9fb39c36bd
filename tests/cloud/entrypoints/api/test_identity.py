"""The routes of identities, over HTTP: tokens, revocation, readmission, the authority."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Client, Response

from fleet_cloud.services.attempts import WRONG_MAX
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.token import EnrolmentToken
from tests.kit.api import Api, running_api
from tests.kit.doors import Door
from tests.kit.identities import make_csr
from tests.kit.people import BEARER

V1 = "/api/v1"


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def api(tmp_path: Path, door: Door) -> Iterator[Api]:
    with running_api(tmp_path, access=door) as running:
        yield running


@pytest.fixture
def http(api: Api) -> Iterator[Client]:
    with Client(base_url=api.url, timeout=60, headers=BEARER) as client:
        yield client


def expect(response: Response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert problem["hint"]


def make_token(http: Client, **request: object) -> str:
    answer = http.post(f"{V1}/enrolment-tokens", json=request)
    assert answer.status_code == 200, answer.text
    return EnrolmentToken.parse(answer.json()["token"]).secret


def enrol(http: Client, secret: str, device: str = "pi-1") -> Response:
    body = {"schema": 1, "secret": secret, "device": device, "csr_pem": make_csr(device)}
    return http.post(f"{V1}/enrolments", json=body)


def test_a_full_disk_is_said_and_no_defect(http: Client, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The register is a file, and is written first."""
    enrol(http, make_token(http))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        expect(http.post(f"{V1}/devices/pi-1/revocation"), 503, "disk.full")
    assert door.inside
    assert http.post(f"{V1}/devices/pi-1/revocation").json()["cut"]
    assert not door.inside


def test_a_token_is_shown_once_listed_without_its_secret_and_taken_back(http: Client) -> None:
    secret = make_token(http, labels={"site": "berlin"}, uses=2)
    assert enrol(http, secret).status_code == 200
    listed = http.get(f"{V1}/enrolment-tokens")
    (token,) = listed.json()
    assert secret not in listed.text
    assert (token["state"], token["uses_max"], token["used_by"]) == ("open", 2, ["pi-1"])
    taken_back = http.delete(f"{V1}/enrolment-tokens/{token['id']}").json()
    assert (taken_back["id"], taken_back["state"]) == (token["id"], "revoked")
    expect(enrol(http, secret, "pi-2"), 403, "enrol.token.revoked")
    expect(http.delete(f"{V1}/enrolment-tokens/0"), 404, "enrol.token.missing")


@pytest.mark.parametrize("request_", [{"uses": 0}, {"uses": 10_001}, {"use": 1}, {"device": 1}])
def test_a_bad_token_is_not_made(http: Client, request_: dict[str, object]) -> None:
    expect(http.post(f"{V1}/enrolment-tokens", json=request_), 422, "request.invalid")


def test_a_token_for_a_device_with_a_bad_name_is_not_made(http: Client) -> None:
    answer = http.post(f"{V1}/enrolment-tokens", json={"device": "ctl-1"})
    assert answer.status_code == 422


def test_who_guesses_gets_429_with_a_time_to_wait(http: Client) -> None:
    for _ in range(WRONG_MAX):
        expect(enrol(http, "guess"), 403, "enrol.token.unknown")
    answer = enrol(http, "guess")
    expect(answer, 429, "enrol.attempts")
    assert answer.headers["Retry-After"] == "60"


def test_a_device_is_revoked_and_let_in_again(http: Client, door: Door) -> None:
    assert enrol(http, make_token(http)).status_code == 200
    assert DeviceId("pi-1") in door.inside
    revoked = http.post(f"{V1}/devices/pi-1/revocation").json()
    assert (revoked["cut"], revoked["enforced"]) == (True, True)
    assert revoked["device"]["revoked_ms"] == http.get(f"{V1}/devices/pi-1").json()["revoked_ms"] > 0
    assert door.inside == {}
    back = http.delete(f"{V1}/devices/pi-1/revocation").json()
    assert back["revoked_ms"] is None
    assert set(door.inside) == {"pi-1"}
    expect(http.post(f"{V1}/devices/pi-9/revocation"), 404, "device.unknown")
    expect(http.delete(f"{V1}/devices/pi-9/revocation"), 404, "device.unknown")
    door.away = True
    assert http.post(f"{V1}/devices/pi-1/revocation").json()["cut"] is False


def test_a_device_that_the_database_forgot_is_listed_and_readmitted(http: Client, api: Api) -> None:
    assert enrol(http, make_token(http)).status_code == 200
    register = api.identities.revocation.register
    entry = register.get(DeviceId("pi-1"))
    assert entry is not None
    register.put(type(entry)(DeviceId("pi-7"), entry.public_key_sha256, "7f", entry.expires_ms))
    assert [one["device"] for one in http.get(f"{V1}/strangers").json()] == ["pi-7"]
    assert http.delete(f"{V1}/devices/pi-7/revocation").json()["id"] == "pi-7"
    assert http.get(f"{V1}/strangers").json() == []


def test_the_authority_is_replaced_over_http(http: Client) -> None:
    assert enrol(http, make_token(http)).status_code == 200
    route = f"{V1}/authorities/rotation"
    before = http.get(route).json()
    assert not before["running"]
    during = http.post(route, json={}).json()
    assert during["fingerprints"][1:] == before["fingerprints"]
    assert (during["devices"], during["behind"], during["behind_total"]) == (1, ["pi-1"], 1)
    expect(http.post(route, json={}), 409, "authority.rotation.running")
    expect(http.post(route, json={"finish": True}), 409, "authority.rotation.early")
    after = http.post(route, json={"finish": True, "force": True}).json()
    assert after["fingerprints"] == during["fingerprints"][:1]
    expect(http.post(route, json={"finish": True}), 409, "authority.rotation.none")


def test_an_answer_to_a_device_names_the_authorities_of_its_token(http: Client) -> None:
    token = EnrolmentToken.parse(http.post(f"{V1}/enrolment-tokens", json={}).json()["token"])
    assert digest_of(http.get(f"{V1}/authorities").content) == token.ca_sha256
    http.post(f"{V1}/authorities/rotation", json={})
    assert digest_of(http.get(f"{V1}/authorities").content) != token.ca_sha256
    named = http.get(f"{V1}/authorities", params={"sha256": token.ca_sha256}, headers={"Authorization": ""})
    assert digest_of(named.content) == token.ca_sha256
    reply = enrol(http, token.secret).json()
    assert digest_of(reply["ca_pem"].encode()) == token.ca_sha256
