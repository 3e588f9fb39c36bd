"""Connections to the API, on real sockets: who sends nothing is let go, and nobody takes all there are."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network
from typing import Any

import pytest
import uvicorn

from fleet_cloud.entrypoints.connections import Door, guarded
from tests.kit.waiting import wait_for

LONG = 32 * 1024 * 1024
"""More than the system keeps for whoever does not read."""
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Takes a second for what is slow, and answers."""
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    body = b"x" * LONG if scope["path"] == "/long" else b"ok"
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(door: Door, head_s: float, keep_alive_s: int = 30) -> Iterator[int]:
    config = uvicorn.Config(application, lifespan="off", log_level="error", timeout_keep_alive=keep_alive_s)
    config.load()
    config.http_protocol_class = guarded(door, head_s)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_for("the server", lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def is_ended(connection: socket.socket) -> bool:
    """Read what there is to its end; raise `TimeoutError` where none comes."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nX: ", REQUEST])
def test_who_begins_no_request_is_let_go(said: bytes) -> None:
    with serving(Door(10, 10), 0.2) as port, closing(connect(port)) as silent:
        silent.sendall(said)
        if said == REQUEST:
            assert b"200 OK" in silent.recv(4096)
            silent.sendall(b"GET /slow HTTP/1.1\r\nX: ")  # the next one never ends
        assert is_ended(silent)


def test_a_request_that_takes_its_time_is_answered() -> None:
    with serving(Door(10, 10), 0.2) as port, closing(connect(port)) as patient:
        patient.sendall(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"200 OK" in patient.recv(4096)


def test_who_reads_slowly_gets_the_whole_answer_and_who_reads_nothing_is_let_go() -> None:
    door = Door(10, 10)
    with serving(door, 0.2, keep_alive_s=0) as port:
        with closing(connect(port)) as slow:
            slow.sendall(REQUEST.replace(b"/", b"/long", 1))
            time.sleep(1.0)  # five looks
            size = 0
            while part := slow.recv(1024 * 1024):
                size += len(part)
            assert size > LONG
        with closing(connect(port)) as deaf:
            deaf.sendall(REQUEST.replace(b"/", b"/long", 1))
            wait_for("it to be served", lambda: door.open == 1)
            wait_for("it to be let go", lambda: door.open == 0)


def test_one_sender_does_not_take_all_and_gets_back_what_it_leaves() -> None:
    door = Door(total=100, each=3)
    with serving(door, 60) as port:
        kept = [connect(port) for _ in range(3)]
        wait_for("three connections", lambda: door.open == 3)
        with closing(connect(port)) as more:
            assert is_ended(more)
        kept.pop().close()

        def answered() -> bool:
            with closing(connect(port)) as again:
                try:
                    again.sendall(REQUEST)
                    return b"200 OK" in again.recv(4096)
                except ConnectionError:
                    return False

        wait_for("room", answered)
        for connection in kept:
            connection.close()


def test_all_together_are_bounded_and_a_proxy_speaks_for_many() -> None:
    door = Door(total=4, each=1, proxies=[ip_network("10.0.0.0/8")])
    assert [door.enter("10.0.0.1"), door.enter("10.0.0.1"), door.enter("192.0.2.1")] == [True] * 3
    assert not door.enter("192.0.2.1")
    assert door.enter("192.0.2.2")
    assert not door.enter("192.0.2.3")
    door.leave("10.0.0.1")
    assert door.enter("192.0.2.3")
