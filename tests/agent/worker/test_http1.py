"""Heads of requests: what is read from them, and what is refused before it can do harm."""

import pytest

from fleet_agent.worker.http1 import Answer, Refused, parse_head, write_head

GET = b"GET /v2 HTTP/1.1\r\nHost: a"
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a"


@pytest.mark.parametrize(
    ("raw", "method", "path", "length", "keep_alive"),
    [
        (GET, "GET", "/v2", 0, True),
        (b"GET /v2 HTTP/1.0", "GET", "/v2", 0, False),
        (b"GET /v2 HTTP/1.0\r\nConnection: Keep-Alive", "GET", "/v2", 0, True),
        (GET + b"\r\nConnection: close", "GET", "/v2", 0, False),
        (GET + b"\r\nConnection: x, CLOSE", "GET", "/v2", 0, False),
        (GET + b"\r\nConnection: x\r\nConnection: close", "GET", "/v2", 0, False),
        (b"GET /v2?a=/b HTTP/1.1\r\nHOST:a", "GET", "/v2", 0, True),
        (b"GET http://a:80/v2/x HTTP/1.1\r\nHost: a", "GET", "/v2/x", 0, True),
        (b"GET http://a HTTP/1.1\r\nHost: a", "GET", "/", 0, True),
        (POST + b"\r\nContent-Length: 0", "POST", "/v2/models/m/infer", 0, True),
        (POST + b"\r\ncontent-length:\t 12 ", "POST", "/v2/models/m/infer", 12, True),
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\nX:", "BREW", "/pot", 0, True),
    ],
)
def test_heads_are_read(raw: bytes, method: str, path: str, length: int, keep_alive: bool) -> None:
    head = parse_head(raw)
    assert (head.method, head.path, head.length, head.keep_alive) == (method, path, length, keep_alive)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"GET /v2", 400),
        (b"GET  /v2 HTTP/1.1\r\nHost: a", 400),
        (b" GET /v2 HTTP/1.1\r\nHost: a", 400),
        (b"G\x00T /v2 HTTP/1.1\r\nHost: a", 400),
        (b"GET v2 HTTP/1.1\r\nHost: a", 400),
        (b"GET /v\xc3\xa4 HTTP/1.1\r\nHost: a", 400),
        (b"GET /v\n2 HTTP/1.1\r\nHost: a", 400),
        (b"GET /v2 HTTP/2.0\r\nHost: a", 505),
        (b"GET /v2 http/1.1\r\nHost: a", 400),
        (b"GET /v2 HTTP/1.1", 400),  # no Host
        (GET + b"\r\nHost: b", 400),
        (GET + b"\r\nno colon", 400),
        (GET + b"\r\n: empty", 400),
        (GET + b"\r\n folded: line", 400),
        (GET + b"\r\nSpace : before the colon", 400),
        (GET + b"\r\nBare: line\nfeed", 400),
        (GET + b"\r\nBare: carriage\rreturn", 400),
        (GET + b"\r\nNul: \x00", 400),
        (GET + b"\r\nA: b" * 64, 431),
        (GET + b"\r\nExpect: a miracle", 417),
        (POST, 411),
        (POST + b"\r\nTransfer-Encoding: chunked", 411),
        (POST + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (POST + b"\r\nContent-Length: 5\r\nTransfer-Encoding: identity", 400),
        (POST + b"\r\nContent-Length: 5\r\nContent-Length: 6", 400),
        (POST + b"\r\nContent-Length: 5\r\nContent-Length: 5", 400),
        (POST + b"\r\nContent-Length: 5, 5", 400),
        (POST + b"\r\nContent-Length: +5", 400),
        (POST + b"\r\nContent-Length: 0x5", 400),
        (POST + b"\r\nContent-Length: 5_0", 400),
        (POST + b"\r\nContent-Length: " + b"9" * 40, 413),
        (POST + b"\r\nContent-Length : 5\r\nContent-Length: 0", 400),
        (GET + b"\r\nContent-Length: x", 400),
    ],
)
def test_what_is_ambiguous_or_malformed_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_head(raw)
    assert caught.value.status == status
    assert str(caught.value)


def test_only_a_1_1_client_is_told_to_continue() -> None:
    assert parse_head(POST + b"\r\nContent-Length: 5\r\nExpect: 100-Continue").expects_continue
    assert not parse_head(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue").expects_continue


@pytest.mark.parametrize(
    ("closes", "is_1_0", "connection"),
    [
        (False, False, b""),
        (True, False, b"Connection: close\r\n"),
        (False, True, b"Connection: keep-alive\r\n"),
        (True, True, b"Connection: close\r\n"),
    ],
)
def test_an_answer_says_its_length_and_what_becomes_of_the_connection(
    closes: bool, is_1_0: bool, connection: bytes
) -> None:
    answer = Answer(404, (b"ab", b"cde"), "text/x", (("Allow", "GET"),))
    assert write_head(answer, closes=closes, is_1_0=is_1_0) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/x\r\nContent-Length: 5\r\nAllow: GET\r\n"
        + connection
        + b"\r\n"
    )
