"""The bridge's client of the worker: who is away, who refuses, and who left a connection behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_agent.bridge.payloads import ModelInfo, Request
from fleet_agent.bridge.worker import HttpInference, RequestRefused, WorkerAway
from tests.kit.scripted_http import BREAK, SILENT, ScriptedHttp

MODEL = {"name": "m", "versions": ["1.0.0"], "platform": "litert", "inputs": [], "outputs": []}
EMPTY = Request({})
ANSWER = {"model_name": "m", "model_version": "1.0.0", "outputs": []}
OK = (200, json.dumps(ANSWER).encode(), False)
OK_AND_CLOSE = (200, json.dumps(ANSWER).encode(), True)


@contextmanager
def scripted(
    folder: Path, *script: tuple[int, bytes, bool] | str
) -> Iterator[tuple[HttpInference, ScriptedHttp]]:
    with ScriptedHttp(folder / "s", script).running() as server:
        client = HttpInference(str(folder / "s"), 0.3)
        yield client, server
        client.close()


def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    described = (200, json.dumps(MODEL).encode(), False)
    with scripted(tmp_path, described, OK, OK) as (client, server):
        assert client.describe("m") == ModelInfo(["1.0.0"], [], [])
        for _ in range(2):
            assert client.infer("m", Request({"inputs": []})).model_version == "1.0.0"
        assert server.connections == 1
        assert (
            server.requests
            == [b"GET /v2/models/m HTTP/1.1 "] + [b'POST /v2/models/m/infer HTTP/1.1 {"inputs":[]}'] * 2
        )


def test_bytes_follow_the_document(tmp_path: Path) -> None:
    with scripted(tmp_path, OK) as (client, server):
        client.infer("m", Request({"inputs": []}, b"\x01\x02"))
        assert server.requests[0].endswith(b'infer HTTP/1.1 {"inputs":[]}\x01\x02')
        assert server.headers[0]["inference-header-content-length"] == "13"


def test_a_worker_that_leaves_costs_nothing(tmp_path: Path) -> None:
    with scripted(tmp_path, OK_AND_CLOSE, OK_AND_CLOSE, OK) as (client, server):
        for _ in range(3):
            client.infer("m", EMPTY)
        assert server.connections == 3


def test_nobody_there_is_away_and_not_broken(tmp_path: Path) -> None:
    client = HttpInference(str(tmp_path / "none"), 0.3)
    with pytest.raises(WorkerAway) as caught:
        client.infer("m", EMPTY)
    assert not caught.value.broken


def test_nobody_who_answers_in_time_is_away_and_not_broken(tmp_path: Path) -> None:
    with scripted(tmp_path, SILENT, SILENT, OK) as (client, _):
        with pytest.raises(WorkerAway, match="did not answer") as caught:
            client.infer("m", EMPTY)
        assert not caught.value.broken
        client.infer("m", EMPTY)


def test_a_request_that_takes_too_long_for_a_worker_that_is_there_counts_against_it(tmp_path: Path) -> None:
    with scripted(tmp_path, SILENT, (200, b'{"live": true}', False), OK) as (client, server):
        with pytest.raises(WorkerAway, match="did not answer") as caught:
            client.infer("m", EMPTY)
        assert caught.value.broken, "or it would be tried for ever, and nothing else"
        assert server.requests[1].startswith(b"GET /v2/health/live")
        client.infer("m", EMPTY)


def test_a_connection_that_breaks_under_a_request_is_broken(tmp_path: Path) -> None:
    with scripted(tmp_path, OK, BREAK, OK) as (client, server):
        client.infer("m", EMPTY)
        with pytest.raises(WorkerAway) as caught:
            client.infer("m", EMPTY)
        assert caught.value.broken
        client.infer("m", EMPTY)
        assert server.connections == 2


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_busy_worker_is_asked_again(tmp_path: Path, status: int) -> None:
    with scripted(tmp_path, (status, b'{"error": "later"}', False)) as (client, _):
        with pytest.raises(WorkerAway, match="later") as caught:
            client.infer("m", EMPTY)
        assert not caught.value.broken


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b'{"error": "no such input"}', "no such input"),
        (404, b"not json", "404"),
        (500, b"[]", "500"),
        (200, b"{}", "cannot be read"),
    ],
)
def test_what_a_worker_refuses_is_said_in_its_words(
    tmp_path: Path, status: int, body: bytes, words: str
) -> None:
    with scripted(tmp_path, (status, body, False)) as (client, _), pytest.raises(RequestRefused, match=words):
        client.infer("m", EMPTY)


def test_the_bridge_loads_no_numpy() -> None:
    code = "import sys, fleet_agent.bridge.main; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
