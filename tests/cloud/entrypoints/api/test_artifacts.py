"""Artifacts over HTTP, and by the client."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_cloud.client import Client
from fleet_cloud.domain.people import Role
from fleet_cloud.errors import Forbidden, NotFound, Unavailable
from tests.cloud.entrypoints.api.test_routes import V1, draft, expect, put
from tests.kit.api import Api, running_api
from tests.kit.people import ADMIN, BEARER, KIT_TOKEN

PATH = f"{V1}/models/m/versions/1.0.0/artifacts"
KERAS = bytes(range(256)) * 999


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60, headers=BEARER) as client:
        yield client


@pytest.fixture
def registered(http: httpx.Client) -> dict[str, str]:
    """Register m:1.0.0 with two artifacts; return their digests."""
    artifacts = {"report.html": put(http, b"<p>m</p>"), "keras/int8": put(http, KERAS)}
    answer = http.post(f"{V1}/models/m/versions", json=draft(http, b"one", artifacts=artifacts))
    assert answer.json()["artifacts"] == ["keras/int8", "report.html"]
    return {name: blob["sha256"] for name, blob in artifacts.items()}


@pytest.fixture
def viewer(api: Api, registered: dict[str, str]) -> Iterator[Client]:
    _, secret = api.tokens.create("ann", Role.VIEWER, None, ADMIN)
    with Client(api.url, secret) as client:
        yield client


def test_artifacts_are_listed_without_their_digests(http: httpx.Client, registered: dict[str, str]) -> None:
    answer = http.get(PATH)
    assert answer.json() == [
        {"name": "keras/int8", "size_bytes": len(KERAS), "role": "operator"},
        {"name": "report.html", "size_bytes": 8, "role": "viewer"},
    ]
    shown = answer.text + http.get(f"{V1}/models/m/versions/1.0.0").text
    assert not [digest for digest in registered.values() if digest in shown]


def test_an_artifact_is_a_file_and_never_a_page(http: httpx.Client, registered: dict[str, str]) -> None:
    answer = http.get(f"{PATH}/report.html")
    assert answer.content == b"<p>m</p>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    part = http.get(f"{PATH}/keras/int8", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, KERAS[10:20])


def test_what_is_not_there_is_told(http: httpx.Client, registered: dict[str, str]) -> None:
    expect(http.get(f"{PATH}/keras/none"), 404, "model.artifact.unknown")
    expect(http.get(f"{PATH}/..%2f..%2fkeys"), 404, "model.artifact.unknown")
    expect(http.get(f"{V1}/models/m/versions/9.0.0/artifacts"), 404, "model.version.unknown")
    bad = draft(http, b"two", artifacts={"../x": put(http, b"x")})
    expect(http.post(f"{V1}/models/m/versions", json=bad), 422, "model.artifact.name")


def test_a_viewer_gets_reports_only(viewer: Client) -> None:
    assert [one.name for one in viewer.artifacts("m", "1.0.0")] == ["keras/int8", "report.html"]
    assert viewer.read_artifact("m", "1.0.0", "report.html") == b"<p>m</p>"
    with pytest.raises(Forbidden, match="operator"):
        viewer.read_artifact("m", "1.0.0", "keras/int8")


def test_the_client_saves_what_it_can_prove(api: Api, registered: dict[str, str], tmp_path: Path) -> None:
    with Client(api.url, KIT_TOKEN) as client:
        target = io.BytesIO()
        assert client.save_artifact("m", "1.0.0", "keras/int8", target) == len(KERAS)
        assert target.getvalue() == KERAS
        with pytest.raises(NotFound, match="keras/none"):
            client.read_artifact("m", "1.0.0", "keras/none")
        digest = registered["keras/int8"]
        (stored,) = [file for file in (tmp_path / "blobs").rglob("*") if file.name.endswith(digest[-60:])]
        stored.chmod(0o600)
        stored.write_bytes(KERAS[:-1] + b"!")
        with pytest.raises(Unavailable, match="damaged") as caught:
            client.read_artifact("m", "1.0.0", "keras/int8")
        assert caught.value.code == "artifact.damaged"
