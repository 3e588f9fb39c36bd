"""The client of the worker: the Open Inference Protocol over HTTP, on the agent's Unix socket or on
loopback. One connection, kept open; a worker that leaves hands it on, and the next one answers."""

from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from fleet_agent.bridge.answers import Answer
from fleet_agent.bridge.payloads import ModelInfo, Request
from fleet_agent.errors import AgentError, InferenceError, SettingsError
from fleet_agent.worker_http import UNIX, Address, Wire

JSON_BYTES: Final = "Inference-Header-Content-Length"
BUSY: Final = frozenset({408, 425, 429, 503})


class WorkerAway(AgentError):
    """Nobody answers; the request may be made again. ``broken``: the request may be the reason: the
    connection broke while the worker had it, or the worker answers others in time."""

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
        # Once only: a message that breaks its worker must not break two.
        self._wire = Wire(_parse(address), timeout_s, again=False)

    def describe(self, model: str) -> ModelInfo:
        raw = self._exchange("GET", f"/v2/models/{quote(model, safe='')}")
        try:
            return msgspec.json.decode(raw, type=ModelInfo)
        except msgspec.MsgspecError as exc:
            raise RequestRefused(f"the worker's metadata cannot be read: {exc}") from exc

    def infer(self, model: str, request: Request) -> Answer:
        document = msgspec.json.encode(request.document)
        headers = f"{JSON_BYTES}: {len(document)}\r\n" if request.binary else ""
        path = f"/v2/models/{quote(model, safe='')}/infer"
        raw = self._exchange("POST", path, headers, [document, request.binary])
        try:
            return msgspec.json.decode(raw, type=Answer)
        except msgspec.MsgspecError as exc:
            raise RequestRefused(f"the worker's answer cannot be read: {exc}") from exc

    def close(self) -> None:
        self._wire.close()

    def _exchange(self, method: str, path: str, headers: str = "", body: Sequence[bytes] = ()) -> memoryview:
        try:
            response = self._wire.ask(method, path, headers, body)
        except InferenceError as exc:
            broken = exc.code == "inference.protocol" or (
                exc.code == "inference.timeout" and self._is_there()
            )
            raise WorkerAway(exc.message, broken=broken) from exc
        _check(response.status, response.body)
        return response.body

    def _is_there(self) -> bool:
        """Whether a worker takes requests: between two of them nobody does."""
        try:
            return self._wire.ask("GET", "/v2/health/live").status == HTTPStatus.OK
        except InferenceError:
            return False


def _parse(address: str) -> Address:
    try:
        return Address.parse(address if "://" in address else f"{UNIX}{address}")
    except ValueError as exc:
        raise SettingsError(
            f"worker = {address!r} is no address of a worker",
            hint="the path of a Unix socket, or http://127.0.0.1:8080",
            code="bridge.settings",
        ) from exc


def _check(status: int, content: memoryview) -> None:
    if status == HTTPStatus.OK:
        return
    sentence = ""
    with suppress(msgspec.MsgspecError, AttributeError):
        sentence = str(msgspec.json.decode(content).get("error", ""))
    if status in BUSY:
        raise WorkerAway(f"the worker is busy ({status}): {sentence}")
    raise RequestRefused(f"the worker refuses ({status}): {sentence}", hint="does the message fit the model?")
