"""Downloads against a real HTTP server that misbehaves on purpose."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet_agent.errors import TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer.download import RETRIES_MAX, Downloader
from fleet_agent.transfer.policy import Step, decide_step, parse_retry_after_s
from fleet_shared.names import Digest

BODY = bytes(range(256)) * 2000
SHA = Digest(hashlib.sha256(BODY).hexdigest())

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Gives the scripted answers first, then honest ones; remembers the ranges asked for."""

    script: list[Answer] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    port: int = 0
    urls: int = 0

    def url_of(self, _sha256: Digest) -> str:
        self.urls += 1
        return f"http://127.0.0.1:{self.port}/{self.urls}"


def honest(handler: http.server.BaseHTTPRequestHandler) -> None:
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    handler.send_header("Content-Length", str(len(BODY) - start))
    handler.end_headers()
    handler.wfile.write(BODY[start:])


def status(code: int, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(body: bytes, announced: int | None = None) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.ranges.append(self.headers.get("Range"))
            (state.script.pop(0) if state.script else honest)(self)

        def log_message(self, *_args: object) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield state
    listener.shutdown()
    thread.join()
    listener.server_close()


def downloader(server: Server, folder: Path) -> Downloader:
    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    return Downloader(folder, server.url_of, lambda _count: None, threading.Event(), no_wait)


def test_a_whole_blob_arrives_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert (counted.fetched, counted.resumed) == (len(BODY), 0)
    _, again = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert (again.fetched, again.resumed) == (0, len(BODY))
    assert len(server.ranges) == 1


def test_a_cut_connection_is_resumed_where_it_stood(server: Server, tmp_path: Path) -> None:
    server.script = [content(BODY[:100_000], announced=len(BODY))]
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.fetched == len(BODY)
    assert server.ranges == [None, "bytes=100000-"]


def test_a_server_that_ignores_ranges_starts_the_file_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(b"x" * 1000)
    server.script = [content(BODY)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY


def test_416_starts_over_once_and_then_fails(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(BODY[:1000])
    server.script = [status(416)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    path.unlink()
    server.script = [status(416), status(416)]
    with pytest.raises(TransferError):
        downloader(server, tmp_path).fetch(SHA, len(BODY))


def test_a_flipped_byte_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.script = [content(BODY[:5000] + bytes([BODY[5000] ^ 1]) + BODY[5001:])]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.digest"
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_promised_end_the_download(server: Server, tmp_path: Path) -> None:
    server.script = [content(BODY + b"more")]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.too_long"


@pytest.mark.parametrize(("code", "name"), [(404, "transfer.not_found"), (410, "transfer.gone")])
def test_a_missing_blob_is_final(server: Server, tmp_path: Path, code: int, name: str) -> None:
    server.script = [status(code)]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == name
    assert len(server.ranges) == 1


def test_a_forbidden_url_gets_one_fresh_one(server: Server, tmp_path: Path) -> None:
    server.script = [status(403)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert server.urls == 2
    path.unlink()
    server.script = [status(403), status(403)]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.refused"


def test_a_busy_server_is_tried_again_and_the_retries_have_a_budget(server: Server, tmp_path: Path) -> None:
    server.script = [status(503), status(429, Retry_After="0"), status(500)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    path.unlink()
    server.script = [status(503)] * (RETRIES_MAX + 1)
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.retries"


def test_an_abort_reaches_a_waiting_download(server: Server, tmp_path: Path) -> None:
    server.script = [status(503, Retry_After="300")]
    one = downloader(server, tmp_path)
    one.aborted.set()
    with pytest.raises(TransferError) as caught:
        one.fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.aborted"


@pytest.mark.parametrize(
    ("code", "step"),
    [(200, Step.RESTART), (206, Step.APPEND), (400, Step.FAIL), (401, Step.FRESH_URL), (404, Step.FAIL),
     (408, Step.RETRY), (416, Step.RESTART), (418, Step.FAIL), (425, Step.RETRY), (429, Step.RETRY),
     (500, Step.RETRY), (599, Step.RETRY)],
)  # fmt: skip
def test_steps(code: int, step: Step) -> None:
    assert decide_step(code) is step


def test_retry_after_is_bounded() -> None:
    assert parse_retry_after_s("7") == 7
    assert parse_retry_after_s("99999") == 300
    assert parse_retry_after_s("Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert parse_retry_after_s(None) is None
