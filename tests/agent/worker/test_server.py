"""The server over real sockets: what it answers, when it is full, and how it makes room for another."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.server import BODY_BYTES_MAX, Server
from tests.kit.engine import HeldModel, hold, load_engine, write_slot
from tests.kit.waiting import wait_for

INFER = "/v2/models/tiny/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.5] * 8}]}
).encode()


class Served:
    """A server on a socket that outlives it, as the supervisor's does."""

    def __init__(self, folder: Path, connections_max: int = 64) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.model: HeldModel
        self.server = self.take_over(folder, connections_max)

    def take_over(self, folder: Path, connections_max: int = 64) -> Server:
        engine = load_engine(write_slot(folder))
        self.model = hold(engine)
        self.server = Server(Protocol(engine), [self.listener], connections_max)
        self.server.start()
        return self.server

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path / "slot")
    yield running
    running.server.drain(0.1)
    running.listener.close()


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes | None = None, method: str | None = None
) -> tuple[int, dict[str, object], bool]:
    """Return status, document, and whether the server will close."""
    connection.request(method or ("GET" if body is None else "POST"), path, body)
    with connection.getresponse() as answer:
        return answer.status, json.loads(answer.read()), answer.will_close


def raw(port: int, request: bytes) -> tuple[int, dict[str, object]]:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(request)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.getheader("Content-Type") == "application/json"
        assert answer.will_close
        return answer.status, json.loads(answer.read())


def test_health_and_metadata(served: Served) -> None:
    connection = served.connect()
    for path, expected in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/tiny/ready": {"name": "tiny", "ready": True},
        "/v2/models/tiny/versions/1.0.0/ready": {"name": "tiny", "ready": True},
    }.items():
        assert ask(connection, path) == (200, expected, False)
    status, server, _ = ask(connection, "/v2")
    assert (status, server["name"]) == (200, "fleet-agent")
    for path in ("/v2/models/tiny", "/v2/models/tiny/", "/v2/models/tiny/versions/1.0.0"):
        status, model, _ = ask(connection, path)
        assert status == 200
        assert model["versions"] == ["1.0.0"]
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    connection.close()


@pytest.mark.parametrize(
    "path", ["/", "/v2/models/other", "/v2/models/tiny/versions/2.0.0", "/v2/models/tinyer", "/v2/health"]
)
def test_what_is_not_there_says_what_is(served: Served, path: str) -> None:
    connection = served.connect()
    status, document, _ = ask(connection, path)
    assert status == 404
    assert "/v2/models/tiny" in str(document["error"])
    status, document, _ = ask(connection, path, BODY)
    assert status == 404
    assert "/v2/models/tiny/infer" in str(document["error"])
    assert ask(connection, INFER, BODY)[0] == 200, "the connection goes on"
    connection.close()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", BODY.replace(b"[1, 8]", b"[]")])
def test_a_bad_request_is_told_why_and_the_connection_goes_on(served: Served, body: bytes) -> None:
    connection = served.connect()
    status, document, closes = ask(connection, INFER, body)
    assert (status, closes) == (400, False)
    assert document["error"]
    assert ask(connection, INFER, BODY)[0] == 200
    connection.close()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", 411),
        (b"Transfer-Encoding: chunked\r\n", 411),
        ("Content-Length: ²\r\n".encode("latin-1"), 411),
        (b"Content-Length: -5\r\n", 411),
        (b"Content-Length: x\r\n", 411),
        (b"Content-Length: %d\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 413),
    ],
)
def test_a_length_that_cannot_be_is_refused(served: Served, header: bytes, expected: int) -> None:
    status, document = raw(served.port, f"POST {INFER} HTTP/1.1\r\n".encode() + header + b"\r\n")
    assert status == expected
    assert document["error"]


@pytest.mark.parametrize(
    ("request_line", "expected"), [(b"PUT /v2 HTTP/1.1", 501), (b"GET /v2 HTTP/x", 400), (b"GET a b c", 400)]
)
def test_what_is_no_request_gets_json_too(served: Served, request_line: bytes, expected: int) -> None:
    status, document = raw(served.port, request_line + b"\r\n\r\n")
    assert status == expected
    assert document["error"]


def test_a_defect_is_an_answer_and_not_a_cut_connection(served: Served) -> None:
    served.model.failures = [RuntimeError("surprise")]
    connection = served.connect()
    status, document, _ = ask(connection, INFER, BODY)
    assert status == 500
    assert "RuntimeError" in str(document["error"])
    assert ask(connection, INFER, BODY)[0] == 200
    connection.close()


def test_a_full_server_waits_without_work_and_goes_on(tmp_path: Path) -> None:
    served = Served(tmp_path / "slot", connections_max=1)
    first, second = served.connect(), served.connect()
    assert ask(first, "/v2/health/live")[0] == 200
    second.connect()
    second.request("GET", "/v2/health/live")  # in the backlog
    begin = time.process_time()
    threading.Event().wait(0.6)
    assert time.process_time() - begin < 0.3, "it spins"
    first.close()
    with second.getresponse() as answer:
        assert answer.status == 200
    second.close()
    served.server.drain(0.1)
    served.listener.close()


def wait_for_calls(model: HeldModel, count: int) -> None:
    wait_for(f"{count} inferences", lambda: model.calls >= count)


class Client(threading.Thread):
    """Asks again and again, over one connection for as long as the server lets it."""

    def __init__(self, served: Served, stop: threading.Event) -> None:
        super().__init__()
        self.served, self.stop = served, stop
        self.answered = self.closed = 0
        self.failed: list[object] = []

    def run(self) -> None:
        connection = self.served.connect()
        while not self.stop.is_set():
            try:
                status, _, closes = ask(connection, INFER, BODY)
            except (OSError, http.client.HTTPException) as exc:
                self.failed.append(exc)
                return
            self.answered += 1
            self.closed += closes
            if status != 200:
                self.failed.append(status)
            if closes:
                connection.close()
        connection.close()


def test_no_request_fails_while_one_server_takes_over_from_another(tmp_path: Path) -> None:
    served = Served(tmp_path / "old")
    stop = threading.Event()
    clients = [Client(served, stop) for _ in range(8)]
    for client in clients:
        client.start()
    for turn in range(3):
        old, old_model = served.server, served.model
        wait_for_calls(old_model, 50)
        served.take_over(tmp_path / f"new{turn}")
        old.drain(5.0)
        assert not old._open
        calls = old_model.calls
        wait_for_calls(served.model, 50)
        assert old_model.calls == calls, "the old one serves nobody any more"
    stop.set()
    for client in clients:
        client.join(20)
    assert [client.failed for client in clients] == [[]] * 8
    assert all(client.closed >= 3 for client in clients)
    served.server.drain(1.0)
    served.listener.close()


def test_a_request_that_is_computed_during_the_drain_is_answered_and_an_idle_connection_closed(
    served: Served,
) -> None:
    busy, idle = served.connect(), served.connect()
    assert ask(idle, "/v2/health/live")[0] == 200
    served.model.go.clear()
    busy.request("POST", INFER, BODY)
    wait_for_calls(served.model, 1)
    drain = threading.Thread(target=served.server.drain, args=(0.3,))
    drain.start()
    wait_for("the drain", served.server.draining.is_set)
    idle.sock.settimeout(20)
    assert idle.sock.recv(1) == b"", "the idle one is closed after the linger"
    served.model.go.set()
    with busy.getresponse() as answer:
        assert answer.status == 200
        assert answer.getheader("Connection") == "close"
    drain.join(20)
    assert not drain.is_alive()
    busy.close()
    idle.close()
