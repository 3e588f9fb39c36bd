"""Servers that stall, drip, lie about lengths or never end, and what is counted of what they send."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.errors import TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer.allowance import Allowance
from fleet_agent.transfer.answer import HttpSource, Pace
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.policy import RETRIES_MAX, parse_retry_after_s
from fleet_shared.limits import KIB, MIB
from fleet_shared.names import AssignmentId, Digest
from tests.kit.blob_server import BlobServer, Handler, blob_server, content, status

BODY = bytes(range(256)) * 1000
SHA = Digest(hashlib.sha256(BODY).hexdigest())
A = AssignmentId("a-1")
STALL_S = 20.0
"""Longer than any test waits: whoever waits for the end of it fails."""


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with blob_server(BODY) as running:
        yield running


class Stalls:
    """Sends so much, then nothing, until the client goes or the test is over."""

    def __init__(self, sent: bytes, *, head: bool = True) -> None:
        self.sent, self.head = sent, head
        self.begun = threading.Event()
        self.gone = threading.Event()

    def __call__(self, handler: Handler) -> None:
        if self.head:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(BODY)))
            handler.end_headers()
        handler.wfile.write(self.sent)
        handler.wfile.flush()
        self.begun.set()
        handler.connection.settimeout(STALL_S)
        try:
            handler.connection.recv(1)
        except OSError:
            return
        self.gone.set()
        handler.close_connection = True


def drip(handler: Handler) -> None:
    """A byte now and then: no read ever times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        return
    finally:
        handler.close_connection = True


def downloader(
    server: BlobServer, folder: Path, *, allowance: Allowance | None = None, pace: Pace | None = None
) -> Downloader:
    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    source = HttpSource(server.url_of, pace or Pace())
    return Downloader(folder, source, lambda _count: None, threading.Event(), no_wait, allowance)


@pytest.mark.parametrize(
    "stall",
    [Stalls(BODY[:1000]), Stalls(b"", head=False), Stalls(b"HTTP/1.1 200 OK\r\nX-Slow: ", head=False)],
    ids=["in the body", "before the head", "in the head"],
)
def test_an_abort_ends_a_download_that_waits_for_a_stalled_socket(
    server: BlobServer, tmp_path: Path, stall: Stalls
) -> None:
    server.always = stall
    one = downloader(server, tmp_path)
    failures: list[TransferError] = []

    def run() -> None:
        try:
            one.fetch(SHA, len(BODY))
        except TransferError as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert stall.begun.wait(10)
    one.aborted.set()
    thread.join(STALL_S / 2)
    assert not thread.is_alive(), "it waits for the socket"
    assert [failure.code for failure in failures] == ["transfer.aborted"]


def test_an_abort_ends_a_connection_that_does_not_come_about(tmp_path: Path) -> None:
    """A listener whose queue is full answers nothing at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        aborted = threading.Event()
        no_wait = Backoff(0.0, 0.0, lambda: 0.0)
        url = f"http://127.0.0.1:{port}/"
        one = Downloader(tmp_path, HttpSource(lambda _sha256: url), lambda _count: None, aborted, no_wait)
        threading.Timer(0.3, aborted.set).start()
        begin_s = time.monotonic()
        with pytest.raises(TransferError) as caught:
            one.fetch(SHA, len(BODY))
        assert caught.value.code == "transfer.aborted"
        assert time.monotonic() - begin_s < 8, "the connection's own time-out came first"
        for filler in fillers:
            filler.close()


def test_a_server_that_drips_uses_up_the_tries(server: BlobServer, tmp_path: Path) -> None:
    """Each try gives some bytes: they are kept, and are no progress."""
    server.always = drip
    pace = Pace(window_s=0.2, bytes_min=1000)
    with pytest.raises(TransferError, match=r"only \d+ bytes in") as caught:
        downloader(server, tmp_path, pace=pace).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.retries"
    assert len(server.ranges) == RETRIES_MAX + 1


def test_a_slow_link_above_the_pace_gets_there(server: BlobServer, tmp_path: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for start in range(0, len(BODY), 16_000):
            handler.wfile.write(BODY[start : start + 16_000])
            handler.wfile.flush()
            time.sleep(0.03)

    server.always = slow
    pace = Pace(window_s=0.1, bytes_min=1000)
    path, _ = downloader(server, tmp_path, pace=pace).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert len(server.ranges) == 1


def test_endless_data_ends_with_the_promise(server: BlobServer, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(64 * KIB))
        except OSError:
            handler.close_connection = True

    server.always = endless
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.too_long"
    assert list(tmp_path.iterdir()) == []


def test_endless_headers_end_too(server: BlobServer, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for number in range(100_000):
                handler.wfile.write(f"X-{number}: x\r\n".encode())
        except OSError:
            handler.close_connection = True

    server.always = endless
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.retries"


def test_a_redirect_is_not_followed(server: BlobServer, tmp_path: Path) -> None:
    server.always = status(302, Location=f"http://127.0.0.1:{server.port}/elsewhere")
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.refused"
    assert len(server.ranges) == 1


def test_a_body_shorter_than_announced_is_resumed(server: BlobServer, tmp_path: Path) -> None:
    server.script = [content(BODY[:77_777], announced=len(BODY))]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=77777-"]


@pytest.mark.parametrize(
    ("header", "date", "wall_s", "expected"),
    [
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", None, 30.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0.0, 30.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", None, 1_792_567_700.0, 10.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", "not a date", 1_792_567_700.0, 10.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", None, None, None),
        ("Wed, 21 Oct 2026 07:28:30 GMT", None, 0.0, 300.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", None, 2e9, 0.0),
        ("yesterday", "Wed, 21 Oct 2026 07:28:00 GMT", 1.0, None),
    ],
)
def test_retry_after_may_be_a_date(
    header: str, date: str | None, wall_s: float | None, expected: float | None
) -> None:
    assert parse_retry_after_s(header, date, wall_s) == expected


def test_what_a_server_asks_for_is_waited_for_with_a_share_for_the_fleet() -> None:
    backoff = Backoff(1.0, 60.0, lambda: 0.5)
    assert backoff.next_delay_s(7.0) == pytest.approx(7.7)
    assert backoff.next_delay_s() == 1.5
    assert backoff.next_delay_s(0.1) == 3.0, "and never less than its own"


# -- the allowance


def test_bytes_are_counted_over_all_tries_and_restarts(server: BlobServer, tmp_path: Path) -> None:
    file, folder = tmp_path / "spent.json", tmp_path / "downloads"
    allowance = Allowance(file, A, len(BODY))
    server.script = [content(BODY[:100_000], announced=len(BODY)), status(404)]
    with pytest.raises(TransferError):
        downloader(server, folder, allowance=allowance).fetch(SHA, len(BODY))
    allowance.settle()
    assert Allowance(file, A, len(BODY)).spent == 100_000
    again = Allowance(file, A, len(BODY))
    downloader(server, folder, allowance=again).fetch(SHA, len(BODY))
    assert again.spent == len(BODY)


def test_a_download_that_would_exceed_the_budget_is_not_begun(server: BlobServer, tmp_path: Path) -> None:
    allowance = Allowance(tmp_path / "spent.json", A, len(BODY) - 1)
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path / "downloads", allowance=allowance).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.budget"
    assert server.ranges == []
    assert server.urls == 0


def test_a_store_that_wastes_bytes_uses_up_the_budget(server: BlobServer, tmp_path: Path) -> None:
    """Each answer begins anew: what is thrown away was paid for."""
    allowance = Allowance(tmp_path / "spent.json", A, 2 * len(BODY))
    (tmp_path / "downloads").mkdir()
    server.always = content(BODY[:200_000], announced=len(BODY))
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path / "downloads", allowance=allowance).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.budget"
    assert allowance.spent == 400_000, "what its head alone refuses costs nothing"


def test_a_kill_costs_a_step_of_the_budget_and_gives_none_back(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    killed = Allowance(file, A, 10 * MIB)
    killed.spend(100)
    assert Allowance(file, A, 10 * MIB).spent == 100 + 10 * MIB // 16
    killed.settle()
    assert Allowance(file, A, 10 * MIB).spent == 100
    assert Allowance(file, AssignmentId("another"), 10).spent == 0
    file.write_bytes(b"\xff")
    assert Allowance(file, A, 10).spent == 0


def test_the_budget_may_be_used_to_the_last_byte(tmp_path: Path) -> None:
    allowance = Allowance(tmp_path / "spent.json", A, 100)
    allowance.require(100)
    allowance.spend(40)
    allowance.require(60)
    with pytest.raises(TransferError) as caught:
        allowance.require(61)
    assert caught.value.code == "transfer.budget"
    Allowance(tmp_path / "spent.json", A, None).require(10**12)
