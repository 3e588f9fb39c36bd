"""Who may call: whoever has a token, from this machine too, and nobody by his word alone."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Client, Headers

from fleet_cloud.domain.people import Role
from fleet_cloud.entrypoints.api.app import ENROLMENT_REQUEST_BYTES
from fleet_cloud.entrypoints.api.limiting import Limits
from tests.cloud.entrypoints.api.test_routes import V1, expect
from tests.kit.api import Api, running_api
from tests.kit.people import ADMIN, BEARER, KIT_TOKEN

OPEN = [f"{V1}/health", "/releases/metadata/timestamp.json", f"{V1}/authorities"]
GUARDED = [f"{V1}/status", f"{V1}/models", f"{V1}/devices", f"{V1}/rollouts", f"{V1}/blobs/{'0' * 64}"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[Client]:
    with Client(base_url=api.url, timeout=60) as client:
        yield client


def test_loopback_needs_a_token_too(http: Client) -> None:
    for path in GUARDED:
        for given in (
            None,
            "Bearer other",
            "Bearer",
            f"Basic {KIT_TOKEN}",
            "Bearer tök",
            "Bearer a.b.c",
        ):
            headers = Headers({} if given is None else {"Authorization": given}, encoding="latin-1")
            refused = http.get(path, headers=headers)
            expect(refused, 401, "api.unauthorized")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert http.get(path, headers=BEARER).status_code in (200, 404)
    lower = {"authorization": f"bearer {KIT_TOKEN}"}
    assert http.get(f"{V1}/status", headers=lower).status_code == 200
    for path in OPEN:
        assert http.get(path).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_form_is_no_json(http: Client, kind: str) -> None:
    headers = {**BEARER, "Content-Type": kind}
    for path in ("enrolment-tokens", "rollouts", "models/m/versions", "enrolments"):
        expect(http.post(f"{V1}/{path}", content=b"{}", headers=headers), 415, "request.media")
    expect(http.patch(f"{V1}/devices/d/labels", content=b"{}", headers=headers), 415, "request.media")
    good = {**BEARER, "Content-Type": "Application/JSON; charset=utf-8"}
    assert http.post(f"{V1}/enrolment-tokens", content=b"{}", headers=good).status_code == 200


def test_a_token_ends_when_it_is_revoked(api: Api, http: Client) -> None:
    token, secret = api.tokens.create("ann", Role.VIEWER, None, ADMIN)
    mine = {"Authorization": f"Bearer {secret}"}
    assert http.get(f"{V1}/whoami", headers=mine).json() == {
        "name": "ann", "role": "viewer", "origin": "127.0.0.1",
    }  # fmt: skip
    assert http.delete(f"{V1}/tokens/ann", headers=BEARER).json()["id"] == token.id
    expect(http.get(f"{V1}/whoami", headers=mine), 401, "api.token.ended")


def ask(api: Api, path: str, *headers: str) -> str:
    """Send the head of a request that promises a terabyte, and no byte of it; return the answer."""
    port = int(api.url.rsplit(":", 1)[1])
    lines = (f"POST {V1}/{path} HTTP/1.1", "Host: localhost", f"Content-Length: {10**12}", *headers)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        return connection.recv(65536).decode()


def test_whoever_asks_is_judged_before_the_body_is_looked_at(api: Api) -> None:
    for headers in ([], ["Authorization: Bearer x"]):
        assert " 401 " in ask(api, "rollouts", "Content-Type: text/plain", *headers)


def test_a_body_that_says_that_it_is_too_large_is_not_read(api: Api) -> None:
    token = f"Authorization: {BEARER['Authorization']}"
    for path in ("rollouts", "enrolments"):
        assert " 413 " in ask(api, path, "Content-Type: application/json", token)


def test_an_enrolment_is_small(http: Client) -> None:
    too_large = b" " * (ENROLMENT_REQUEST_BYTES + 1)
    kind = {"Content-Type": "application/json"}
    for content in (too_large, iter([too_large])):
        expect(http.post(f"{V1}/enrolments", content=content, headers=kind), 413, "request.too_large")


def test_too_many_requests_of_one_token_are_told_when_to_come_back(tmp_path: Path) -> None:
    limits = Limits(per_token_s=0.5, per_address_s=0.5, monotonic_s=lambda: 100.0)
    with running_api(tmp_path, limits) as api, Client(base_url=api.url, timeout=60) as http:
        for path, headers in ((f"{V1}/whoami", BEARER), (f"{V1}/health", {})):
            codes = [http.get(path, headers=headers).status_code for _ in range(5)]
            assert codes == [200] * 5
            late = http.get(path, headers=headers)
            expect(late, 429, "request.rate")
            assert late.headers["Retry-After"] == "2"


def test_wrong_tokens_are_counted_and_right_ones_let_in_all_the_same(tmp_path: Path) -> None:
    limits = Limits(per_token_s=0, per_address_s=0, monotonic_s=lambda: 100.0)
    with running_api(tmp_path, limits) as api, Client(base_url=api.url, timeout=60) as http:
        wrong = {"Authorization": "Bearer guess"}
        codes = [http.get(f"{V1}/status", headers=wrong).status_code for _ in range(21)]
        assert codes == [401] * 20 + [429]
        assert http.get(f"{V1}/status", headers=BEARER).status_code == 200
