"""Uploads that are slow, cut off or many: they fail alone, and quietly."""

import hashlib
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from httpx import Client

from fleet_cloud.entrypoints.api import blobs as blob_routes
from fleet_cloud.entrypoints.api import reading
from tests.kit.api import Api, running_api
from tests.kit.people import BEARER
from tests.kit.waiting import wait_for

BODY = b"x" * 1_000_000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


def begin_upload(api: Api, sent: bytes, path: str = f"/api/v1/blobs/{SHA}") -> socket.socket:
    """Send the head of a request and the first bytes of its body."""
    port = int(api.url.rsplit(":", 1)[1])
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    method = "PUT" if "blobs" in path else "POST"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: {BEARER['Authorization']}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection


def temporary_files(folder: Path) -> list[Path]:
    return list((folder / "blobs").rglob(".*.tmp"))


def test_slow_uploads_keep_nobody_else_waiting(api: Api, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(begin_upload(api, BODY[:100_000]))
        wait_for("uploads to begin", lambda: len(temporary_files(tmp_path)) >= blob_routes.UPLOADS_AT_ONCE)
        with Client(base_url=f"{api.url}/api/v1", headers=BEARER, timeout=10) as http:
            assert http.get("/status").status_code == 200
            assert http.get("/models").status_code == 200
    wait_for("all to be given up", lambda: not temporary_files(tmp_path))


@pytest.mark.parametrize("path", [f"/api/v1/blobs/{SHA}", "/api/v1/rollouts"])
def test_a_body_that_stops_is_answered(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(reading, "PART_TIMEOUT_S", 0.2)
    with begin_upload(api, BODY[:1000], path) as connection:
        answer = connection.recv(65536)
        assert b" 408 " in answer.split(b"\r\n")[0]
        while part := connection.recv(65536):
            answer += part
    assert b"request.slow" in answer
    assert temporary_files(tmp_path) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sent", [b"", BODY[:10], BODY[:700_000]])
def test_a_cut_upload_is_forgotten_quietly(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.INFO)
    begin_upload(api, sent).close()
    wait_for("the cut to be seen", lambda: "was cut off" in caplog.text)
    begin_upload(api, sent, "/api/v1/rollouts").close()
    wait_for("the next to be seen", lambda: caplog.text.count("was cut off") == 2)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "Traceback" not in caplog.text
    assert temporary_files(tmp_path) == []
    with Client(base_url=f"{api.url}/api/v1", timeout=60, headers=BEARER) as http:
        assert http.head(f"/blobs/{SHA}").status_code == 404
        assert http.put(f"/blobs/{SHA}", content=BODY).status_code == 201
