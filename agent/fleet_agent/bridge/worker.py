"""The client of the worker: the Open Inference Protocol over HTTP, on the agent's Unix socket or on
loopback. One connection, kept open; a worker that leaves closes it, and the next one answers."""

import http.client
import select
import socket
from contextlib import suppress
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from fleet_agent.bridge.answers import Answer
from fleet_agent.bridge.payloads import ModelInfo, Request
from fleet_agent.errors import AgentError, SettingsError

JSON_BYTES: Final = "Inference-Header-Content-Length"
BUSY: Final = frozenset({408, 425, 429, 503})


class WorkerAway(AgentError):
    """Nobody answers; the request may be made again. ``broken``: the connection broke while the
    worker had the request, which may be the reason."""

    code = "bridge.worker.away"

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message, hint="is the agent running, and does it have a model?")
        self.broken = broken


class RequestRefused(AgentError):
    """The worker answered that it cannot."""

    code = "bridge.refused"


class Inference(Protocol):
    """What the bridge needs of a worker."""

    def describe(self, model: str) -> ModelInfo: ...

    def infer(self, model: str, request: Request) -> Answer: ...


class HttpInference:
    """``address``: the path of a Unix socket, or ``http://host:port``. One thread at a time.

    Raises `WorkerAway` or `RequestRefused`.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._connection = _make_connection(address, timeout_s)
        self._address = address

    def describe(self, model: str) -> ModelInfo:
        raw = self._exchange("GET", f"/v2/models/{quote(model, safe='')}", b"", {})
        try:
            return msgspec.json.decode(raw, type=ModelInfo)
        except msgspec.MsgspecError as exc:
            raise RequestRefused(f"the worker's metadata cannot be read: {exc}") from exc

    def infer(self, model: str, request: Request) -> Answer:
        document = msgspec.json.encode(request.document)
        headers = {"Content-Type": "application/json"}
        if request.binary:
            headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(len(document))}
        path = f"/v2/models/{quote(model, safe='')}/infer"
        raw = self._exchange("POST", path, document + request.binary, headers)
        try:
            return msgspec.json.decode(raw, type=Answer)
        except msgspec.MsgspecError as exc:
            raise RequestRefused(f"the worker's answer cannot be read: {exc}") from exc

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if _is_stale(self._connection.sock):  # a worker that left closed it: no request was there to break
            self._connection.close()
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError as exc:
            self._connection.close()
            raise WorkerAway(f"{self._address}: {exc}") from exc
        try:
            self._connection.request(method, path, body or None, headers)
            response = self._connection.getresponse()
            content = response.read()
        except TimeoutError as exc:  # no worker takes the connection: it will, or the supervisor ends it
            self._connection.close()
            raise WorkerAway(f"{self._address} does not answer in time") from exc
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise WorkerAway(f"{self._address}: {exc or type(exc).__name__}", broken=True) from exc
        _check(response.status, content)
        return content


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


def _make_connection(address: str, timeout_s: float) -> http.client.HTTPConnection:
    if "://" not in address:
        return UnixConnection(address, timeout_s)
    with suppress(ValueError):
        url = urlsplit(address)
        if url.scheme == "http" and url.hostname and url.path in {"", "/"}:
            return http.client.HTTPConnection(url.hostname, url.port or 80, timeout=timeout_s)
    raise SettingsError(
        f"worker = {address!r} is no address of a worker",
        hint="the path of a Unix socket, or http://127.0.0.1:8080",
        code="bridge.settings",
    )


def _is_stale(sock: socket.socket | None) -> bool:
    """A worker says nothing unasked: what there is to read is the end."""
    return sock is not None and bool(select.select([sock], [], [], 0)[0])


def _check(status: int, content: bytes) -> None:
    if status == http.client.OK:
        return
    sentence = ""
    with suppress(msgspec.MsgspecError, AttributeError):
        sentence = str(msgspec.json.decode(content).get("error", ""))
    if status in BUSY:
        raise WorkerAway(f"the worker is busy ({status}): {sentence}")
    raise RequestRefused(f"the worker refuses ({status}): {sentence}", hint="does the message fit the model?")
