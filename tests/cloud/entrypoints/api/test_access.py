"""Who may call: the token where there is one, else this machine and no web page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Client, Headers

from tests.cloud.entrypoints.api.test_routes import V1, expect
from tests.kit.api import running_api

OPEN = [f"{V1}/health", "/releases/metadata/timestamp.json"]
GUARDED = [f"{V1}/status", f"{V1}/models", f"{V1}/devices", f"{V1}/rollouts", f"{V1}/blobs/{'0' * 64}"]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Client]:
    with running_api(tmp_path) as api, Client(base_url=api.url) as client:
        yield client


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Client]:
    with (
        running_api(tmp_path, "token") as api,
        Client(base_url=api.url, headers={"Host": "fleet.example"}) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8470", "127.0.0.1.evil.example", "10.0.0.1", "[x"]
)
def test_a_name_that_was_bound_to_loopback_is_refused(local: Client, host: str) -> None:
    for path in GUARDED:
        expect(local.get(path, headers={"Host": host}), 403, "api.origin")
    for path in OPEN:
        assert local.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8470", "127.0.0.1:1", "[::1]:8470"])
def test_this_machine_may_call(local: Client, host: str) -> None:
    assert local.get(f"{V1}/status", headers={"Host": host}).status_code == 200
    assert local.get(f"{V1}/status", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "http://[x"])
def test_another_page_is_refused(local: Client, origin: str) -> None:
    headers = {"Origin": origin}
    expect(local.get(f"{V1}/status", headers=headers), 403, "api.origin")
    expect(local.post(f"{V1}/enrolment-tokens", json={}, headers=headers), 403, "api.origin")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_form_is_no_json(local: Client, kind: str) -> None:
    headers = {"Content-Type": kind}
    for path in ("enrolment-tokens", "rollouts", "models/m/versions", "enrolments"):
        expect(local.post(f"{V1}/{path}", content=b"{}", headers=headers), 415, "request.media")
    expect(local.patch(f"{V1}/devices/d/labels", content=b"{}", headers=headers), 415, "request.media")
    good = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert local.post(f"{V1}/enrolment-tokens", content=b"{}", headers=good).status_code == 200


def test_the_token_opens_the_operators_routes(guarded: Client) -> None:
    for path in GUARDED:
        for given in (None, "Bearer other", "Bearer", "Basic token", "Bearer tök"):
            headers = Headers({} if given is None else {"Authorization": given}, encoding="latin-1")
            refused = guarded.get(path, headers=headers)
            expect(refused, 401, "api.unauthorized")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert guarded.get(path, headers={"Authorization": "Bearer token"}).status_code in (200, 404)
    assert guarded.get(f"{V1}/status", headers={"Authorization": "bearer token"}).status_code == 200
    for path in OPEN:
        assert guarded.get(path).status_code == 200
