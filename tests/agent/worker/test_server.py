"""The server over real sockets: what it answers, when it is full, and how it makes room for another."""

import gzip
import http.client
import json
import os
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fleet_agent.worker import server as server_module
from fleet_agent.worker.oip import BODY_BYTES_MAX
from tests.kit.engine import HeldModel
from tests.kit.served import Served
from tests.kit.waiting import wait_for

INFER = "/v2/models/tiny/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.5] * 8}]}
).encode()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path / "slot")
    yield running
    running.close()


@pytest.fixture
def paired(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path / "slot", pair=True)
    yield running
    running.close()


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes | None = None, method: str | None = None
) -> tuple[int, dict[str, object], bool]:
    """Return status, document, and whether the server will close."""
    connection.request(method or ("GET" if body is None else "POST"), path, body)
    with connection.getresponse() as answer:
        return answer.status, json.loads(answer.read()), answer.will_close


def raw(port: int, request: bytes) -> tuple[int, dict[str, object]]:
    """Return status and document of the answer to bytes after which the server must close."""
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


def test_the_wrong_method_is_told_the_right_one_and_head_is_get_without_its_body(served: Served) -> None:
    connection = served.connect()
    for method, path, allowed in (("GET", INFER, "POST"), ("POST", "/v2", "GET, HEAD")):
        connection.request(method, path, BODY if method == "POST" else None)
        with connection.getresponse() as answer:
            assert (answer.status, answer.getheader("Allow")) == (405, allowed)
            assert "error" in json.loads(answer.read())
    connection.request("HEAD", "/v2/models/tiny")
    with connection.getresponse() as answer:
        assert answer.status == 200
        assert int(answer.getheader("Content-Length", "0")) > 50
        assert answer.read() == b""
    assert ask(connection, "/v2/models/%74iny/ready")[0] == 200
    connection.close()


def test_an_old_client_is_answered_and_told_what_becomes_of_its_connection(served: Served) -> None:
    for header, wanted in ((b"", "close"), (b"Connection: keep-alive\r\n", "keep-alive")):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            client.sendall(b"GET /v2/health/live HTTP/1.0\r\n" + header + b"\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.getheader("Connection")) == (200, wanted)
            answer.close()


def binary_request() -> tuple[bytes, int]:
    """Return a request with a binary tensor, and how many bytes of it are JSON."""
    tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    raw = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return raw + struct.pack("<8f", *[0.5] * 8), len(raw)


def post(
    connection: http.client.HTTPConnection, body: bytes, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", INFER, body, named)
    with connection.getresponse() as answer:
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_tensors_travel_as_bytes_compressed_or_not(served: Served, encoding: str | None) -> None:
    connection = served.connect()
    wanted = ask(connection, INFER, BODY)[1]["outputs"][0]["data"]  # type: ignore[index]
    body, json_bytes = binary_request()
    packed = {None: body, "gzip": gzip.compress(body, mtime=0), "deflate": zlib.compress(body)}[encoding]
    headers = {"Inference_Header_Content_Length": str(json_bytes)}
    if encoding:
        headers["Content_Encoding"] = encoding
    status, answered, content = post(connection, packed, Accept_Encoding="gzip", **headers)
    assert status == 200, content
    assert answered["Content-Type"] == "application/octet-stream"
    assert answered["Content-Encoding"] is None
    length = int(answered["Inference-Header-Content-Length"])
    (output,) = json.loads(content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": len(content) - length}
    assert struct.unpack("<4f", content[length:]) == pytest.approx(wanted)
    connection.close()


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Content_Encoding": "br"}, BODY, 415),
        ({"Content_Encoding": "gzip"}, BODY, 400),
        ({"Content_Encoding": "gzip"}, gzip.compress(BODY, mtime=0)[:-4], 400),
        ({"Content_Encoding": "gzip"}, gzip.compress(BODY, mtime=0) + b"more", 400),
        ({"Content_Encoding": "gzip"}, gzip.compress(bytes(BODY_BYTES_MAX + 1)), 413),
        ({"Content_Encoding": "identity"}, BODY, 200),
        ({"Inference_Header_Content_Length": "x"}, BODY, 400),
        ({"Inference_Header_Content_Length": "-1"}, BODY, 400),
        ({"Inference_Header_Content_Length": "9" * 30}, BODY, 400),
        ({"Inference_Header_Content_Length": str(len(BODY) + 1)}, BODY, 400),
        ({"Inference_Header_Content_Length": str(len(BODY))}, BODY, 200),
        ({"Inference_Header_Content_Length": "0"}, struct.pack("<8f", *[0.5] * 8), 200),
    ],
)
def test_headers_that_do_not_fit_the_body_are_refused_and_the_connection_goes_on(
    served: Served, headers: dict[str, str], body: bytes, expected: int
) -> None:
    connection = served.connect()
    status, _, content = post(connection, body, **headers)
    assert status == expected, content
    assert ask(connection, INFER, BODY)[0] == 200
    connection.close()


def test_statistics_are_exact_over_many_connections(served: Served) -> None:
    def work() -> None:
        connection = served.connect()
        for _ in range(25):
            assert ask(connection, INFER, BODY)[0] == 200
        assert ask(connection, INFER, b"{}")[0] == 400
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    connection = served.connect()
    found = [ask(connection, f"/v2/models/{path}stats")[1] for path in ("", "tiny/", "tiny/versions/1.0.0/")]
    assert found[0] == found[1] == found[2]
    stats: dict[str, Any] = found[0]["model_stats"][0]  # type: ignore[index]
    assert stats["inference_count"] == 100
    assert stats["inference_stats"]["success"]["count"] == 100
    assert stats["inference_stats"]["fail"]["count"] == 4
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
        ("Content-Length: ²\r\n".encode("latin-1"), 400),
        (b"Content-Length: -5\r\n", 400),
        (b"Content-Length: x\r\n", 400),
        (b"Content-Length: %d\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 413),
    ],
)
def test_a_length_that_cannot_be_is_refused(served: Served, header: bytes, expected: int) -> None:
    status, document = raw(served.port, f"POST {INFER} HTTP/1.1\r\nHost: a\r\n".encode() + header + b"\r\n")
    assert status == expected
    assert document["error"]


@pytest.mark.parametrize(
    ("request_line", "expected"), [(b"PUT /v2 HTTP/1.1", 501), (b"GET /v2 HTTP/x", 400), (b"GET a b c", 400)]
)
def test_what_is_no_request_gets_json_too(served: Served, request_line: bytes, expected: int) -> None:
    status, document = raw(served.port, request_line + b"\r\nHost: a\r\n\r\n")
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
    served.close()


def test_a_server_short_of_threads_or_memory_says_so_and_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            assert client.recv(1) == b"", "closed at once, not left waiting"
    connection = served.connect()
    assert ask(connection, INFER, BODY)[0] == 200
    served.model.failures = [MemoryError()]
    status, document, closes = ask(connection, INFER, BODY)
    assert (status, closes) == (503, True)
    assert "memory" in str(document["error"])
    connection.close()


def test_a_server_without_descriptors_waits_without_work_until_there_are_some(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    late = socket.socket()
    with no_descriptors():
        late.connect(("127.0.0.1", served.port))
        wait_for("the server to notice", lambda: "no connection can be accepted" in caplog.text)
        begin = time.process_time()
        threading.Event().wait(0.5)
        assert time.process_time() - begin < 0.3, "it spins"
    late.settimeout(20)
    late.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert late.recv(100).startswith(b"HTTP/1.1 200 OK")
    late.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Take all that this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 300), hard))
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


def swap_three_times(served: Served, folder: Path) -> list[Client]:
    """Swap the server while eight clients ask it all the time; return them, none of them having failed."""
    stop = threading.Event()
    clients = [Client(served, stop) for _ in range(8)]
    for client in clients:
        client.start()
    for turn in range(3):
        old, old_model = served.server, served.model
        wait_for_calls(old_model, 50)
        served.take_over(folder / f"new{turn}")
        old.drain(5.0)
        assert not old._open
        calls = old_model.calls
        wait_for_calls(served.model, 50)
        assert old_model.calls == calls, "the old one serves nobody any more"
    stop.set()
    for client in clients:
        client.join(20)
    assert [client.failed for client in clients] == [[]] * 8
    return clients


def test_no_request_fails_while_one_server_takes_over_from_another(tmp_path: Path) -> None:
    served = Served(tmp_path / "old")
    clients = swap_three_times(served, tmp_path)
    assert all(client.closed >= 3 for client in clients)
    served.close()


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


def test_no_connection_is_closed_where_the_next_server_takes_them_over(tmp_path: Path) -> None:
    served = Served(tmp_path / "old", pair=True)
    clients = swap_three_times(served, tmp_path)
    assert [client.closed for client in clients] == [0] * 8
    served.close()


def test_idle_connections_wait_for_the_next_server_also_when_it_is_late(
    paired: Served, tmp_path: Path
) -> None:
    idle, asking = paired.connect(), paired.connect()
    for connection in (idle, asking):
        assert ask(connection, INFER, BODY)[0] == 200
    begin_s = time.monotonic()
    paired.server.drain(30.0)
    assert time.monotonic() - begin_s < 20, "it waits for nobody"
    asking.request("POST", INFER, BODY)
    paired.take_over(tmp_path / "new")
    with asking.getresponse() as answer:
        assert (answer.status, answer.will_close) == (200, False)
    assert ask(idle, INFER, BODY) == (200, ask(asking, INFER, BODY)[1], False)
    assert paired.model.calls == 3
    idle.close()
    asking.close()


def test_a_request_half_sent_is_answered_by_the_server_that_began_to_read_it(
    paired: Served, tmp_path: Path
) -> None:
    old, old_model = paired.server, paired.model
    request = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with socket.create_connection(("127.0.0.1", paired.port), 20) as client:
        client.sendall(request[:40])
        wait_for("the request to begin", lambda: any(one.idle_since_s is None for one in old._open))
        paired.take_over(tmp_path / "new")
        drain = threading.Thread(target=old.drain, args=(20.0,))
        drain.start()
        wait_for("the drain", old._accepts_no_more.is_set)
        for part in (request[40:] + request[:10], request[10:]):
            client.sendall(part)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.will_close) == (200, False)
            answer.read()
        drain.join(20)
        assert not drain.is_alive()
    assert old_model.calls + paired.model.calls == 2
    assert old_model.calls >= 1


def test_a_connection_that_nobody_takes_is_told_to_close(paired: Served) -> None:
    """The pair is gone: the supervisor ends, or it is full."""
    connection = paired.connect()
    assert ask(connection, INFER, BODY)[0] == 200
    for one in paired.pair:
        one.close()
    drain = threading.Thread(target=paired.server.drain, args=(20.0,))
    drain.start()
    wait_for("the drain", paired.server._accepts_no_more.is_set)
    assert ask(connection, INFER, BODY)[::2] == (200, True)
    drain.join(20)
    assert not drain.is_alive()
    connection.close()


def test_only_a_connection_that_was_idle_for_long_gives_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_AFTER_S", 0.3)
    monkeypatch.setattr(server_module, "ACCEPT_POLL_S", 0.02)
    served = Served(tmp_path / "slot", connections_max=2)
    alone, other = served.connect(), served.connect()
    assert ask(alone, INFER, BODY)[0] == 200
    threading.Event().wait(0.6)
    assert ask(alone, INFER, BODY)[0] == 200, "nobody needs its place"
    served.model.go.clear()
    alone.request("POST", INFER, BODY)
    assert ask(other, "/v2")[0] == 200
    third = served.connect()
    assert ask(third, "/v2")[0] == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(other, "/v2")
    served.model.go.set()
    with alone.getresponse() as answer:
        assert answer.status == 200, "one that is answered stays"
    for connection in (alone, other, third):
        connection.close()
    served.close()


def test_connections_are_taken_over_although_others_took_all_places_meanwhile(tmp_path: Path) -> None:
    served = Served(tmp_path / "old", connections_max=2, pair=True)
    old, kept = served.server, [served.connect() for _ in range(2)]
    for connection in kept:
        assert ask(connection, INFER, BODY)[0] == 200
    others = [served.connect() for _ in range(2)]
    for connection in others:
        connection.request("GET", "/v2")  # waits in the backlog
    served.take_over(tmp_path / "new", connections_max=2)
    for connection in others:
        with connection.getresponse() as answer:
            assert answer.status == 200
            answer.read()
    old.drain(5.0)
    for connection in (*kept, *others):
        assert ask(connection, INFER, BODY)[::2] == (200, False)
    late = served.connect()
    late.request("GET", "/v2")
    for connection in kept:
        connection.close()
    wait_for("the places beyond to be given back", lambda: len(served.server._open) == 2)
    others[0].close()
    with late.getresponse() as answer:
        assert answer.status == 200, "a usual place is for the next one who knocks"
        answer.read()
    for connection in (late, others[1]):
        connection.close()
    served.close()


def test_an_empty_line_after_a_body_keeps_no_connection_from_the_next_server(
    paired: Served, tmp_path: Path
) -> None:
    old = paired.server
    request = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with socket.create_connection(("127.0.0.1", paired.port), 20) as client:
        for _ in range(2):
            client.sendall(request + b"\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.will_close) == (200, False)
            answer.read()
            if paired.server is old:
                paired.take_over(tmp_path / "new")
                begin_s = time.monotonic()
                old.drain(30.0)
                assert time.monotonic() - begin_s < 20, "it waits for no request that has not begun"
    assert paired.model.calls == 1
