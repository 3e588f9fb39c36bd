"""Connections: requests in pieces, in a row, too large, or never finished."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet_agent.worker import stream as stream_module
from fleet_agent.worker.http1 import CONTINUE, HEAD_BYTES_MAX, Refused
from fleet_agent.worker.stream import BUFFER_BYTES, Gone, Stream

BODY = bytes(range(256)) * 4
POST = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n%s\r\n"


@contextmanager
def connected() -> Iterator[tuple[socket.socket, Stream, int]]:
    """A client's socket, the stream at the other end, and what wakes it."""
    client, server = socket.socketpair()
    wake, wakes = os.pipe()
    client.settimeout(20)
    with client, server:
        yield client, Stream(server, wake), wakes
    os.close(wake)
    os.close(wakes)


def read(stream: Stream) -> tuple[str, bytes]:
    head = stream.read_head()
    return head.path, bytes(stream.read_body(head))


def test_a_request_in_single_bytes_is_one_request() -> None:
    with connected() as (client, stream, _):
        request = POST % (len(BODY), b"") + BODY

        def send() -> None:
            for i in range(len(request)):
                client.send(request[i : i + 1])

        thread = threading.Thread(target=send)
        thread.start()
        assert stream.wait()
        assert read(stream) == ("/a", BODY)
        thread.join(20)


def test_requests_in_one_piece_are_several_and_empty_lines_between_them_nothing() -> None:
    with connected() as (client, stream, wakes):
        get = b"GET /c HTTP/1.1\r\nHost: b\r\n\r\n"
        client.sendall(POST % (len(BODY), b"") + BODY + b"\r\n" + get + b"\r\n\r\n" + get)
        os.write(wakes, b".")
        for expected in (("/a", BODY), ("/c", b""), ("/c", b"")):
            assert stream.wait(), "what has begun is answered, also by one who leaves"
            assert read(stream) == expected
        assert not stream.wait()


def test_many_requests_in_a_row_go_through_one_buffer() -> None:
    count = 3 * BUFFER_BYTES // len(BODY)
    with connected() as (client, stream, _):
        thread = threading.Thread(target=client.sendall, args=((POST % (len(BODY), b"") + BODY) * count,))
        thread.start()
        assert [read(stream) for _ in range(count)] == [("/a", BODY)] * count
        thread.join(20)


def test_a_body_larger_than_the_buffer_arrives_whole_and_the_next_request_after_it() -> None:
    large = os.urandom(3 * BUFFER_BYTES)
    with connected() as (client, stream, _):
        request = POST % (len(large), b"") + large + POST % (2, b"") + b"ok"
        thread = threading.Thread(target=client.sendall, args=(request,))
        thread.start()
        assert read(stream) == ("/a", large)
        assert read(stream) == ("/a", b"ok")
        thread.join(20)


def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    with connected() as (client, stream, _):
        client.sendall(POST % (2, b"Expect: 100-continue\r\n"))
        head = stream.read_head()
        read_body: list[bytes] = []
        thread = threading.Thread(target=lambda: read_body.append(bytes(stream.read_body(head))))
        thread.start()
        assert client.recv(100) == CONTINUE
        client.sendall(b"ok")
        thread.join(20)
        assert read_body == [b"ok"]


def test_who_sends_the_body_at_once_is_told_nothing() -> None:
    with connected() as (client, stream, _):
        client.sendall(POST % (2, b"Expect: 100-continue\r\n") + b"ok")
        assert read(stream) == ("/a", b"ok")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"])
def test_a_head_without_end_is_refused_at_its_bound(ending: bytes) -> None:
    with connected() as (client, stream, _):
        client.sendall(b"GET /a HTTP/1.1\r\nA: " + b"a" * HEAD_BYTES_MAX + ending)
        with pytest.raises(Refused) as caught:
            stream.read_head()
        assert caught.value.status == 431


@pytest.mark.parametrize("begun", [b"", b"GET /a", POST % (5, b"") + b"ab"])
def test_a_client_that_goes_away_is_gone(begun: bytes) -> None:
    with connected() as (client, stream, _):
        client.sendall(begun)
        client.close()
        with pytest.raises(Gone):
            read(stream)


def test_a_request_that_is_never_finished_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MESSAGE_WITHIN_S", 0.05)
    with connected() as (client, stream, _):
        client.sendall(b"GET /a")
        with pytest.raises(Gone):
            stream.read_head()
    with connected() as (client, stream, _):
        with pytest.raises(Gone):
            stream.send((bytes(64 * 1024 * 1024),))  # nobody reads it
        assert client.recv(1) == b"\0"


def test_many_parts_of_any_size_are_sent_in_order() -> None:
    parts = [os.urandom(size) for size in (1, 0, 300_000, 7)] + [b"x"] * 2000
    with connected() as (client, stream, _):
        received = bytearray()

        def receive() -> None:
            while len(received) < sum(map(len, parts)):
                received.extend(client.recv(100_000))

        thread = threading.Thread(target=receive)
        thread.start()
        stream.send(parts)
        thread.join(20)
        assert received == b"".join(parts)


def test_the_last_answer_arrives_although_the_request_was_not_read() -> None:
    """Over TCP: a socket that is closed with bytes unread is reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 20)
        server, _ = listener.accept()
        wake, wakes = os.pipe()
        with client, server:
            stream = Stream(server, wake)
            client.sendall(POST % (10_000_000, b"") + bytes(100_000))
            stream.read_head()
            stream.send((b"no",))
            thread = threading.Thread(target=stream.hang_up)
            thread.start()
            assert client.recv(10) == b"no"
            assert client.recv(10) == b""
            client.close()
            thread.join(20)
        os.close(wake)
        os.close(wakes)
