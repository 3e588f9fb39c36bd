"""The client itself."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Self

from fleet_agent.client.tensors import Outputs, read_answer, write_request
from fleet_agent.errors import InferenceError
from fleet_agent.worker_http import Address, Response, Wire

DEFAULT_ADDRESS: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 30.0
JSON_BYTES: Final = "Inference-Header-Content-Length"


class InferenceClient:
    """Asks one agent, over one connection that is kept; so one thread at a time, each with its own client.
    What goes wrong is an `InferenceError`, whose ``code`` says what: ``inference.unreachable`` (nobody
    listens), ``inference.timeout``, ``inference.refused`` (the request does not fit the model),
    ``inference.not_found`` (another model is served), ``inference.failed`` (the model or the agent
    failed), ``inference.protocol`` (what answers is no agent).

    ``address``: ``http://HOST:PORT``, or ``unix:/PATH`` of ``inference.sock`` in the agent's state folder,
    which is a little faster. ``model``: whose answers are wanted; any that is served if left out.
    ``binary``: send tensors as bytes (the default) or as JSON numbers. ``timeout_s`` for each step of a
    request. While the agent swaps its model the client needs nothing: the connection stays, and the next
    answer comes from the new version.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        model: str | None = None,
        *,
        binary: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._wire = Wire(Address.parse(address), timeout_s)
        self._wanted, self._served = model, model
        self._binary = binary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request would open another."""
        self._wire.close()

    def infer(self, inputs: Mapping[str, ArrayLike], outputs: Iterable[str] | None = None) -> Outputs:
        """Return the model's outputs by name, ``outputs`` or all, for ``inputs`` by name: arrays with samples
        first, in the model's own types (`metadata` says which). Raises `InferenceError`."""
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        document, contents = write_request(arrays, outputs, binary=self._binary)
        headers = f"{JSON_BYTES}: {len(document)}\r\n" if contents else ""
        response = self._ask_model("infer", "POST", headers, [document, *contents])
        length = response.headers.get(JSON_BYTES.lower(), "")
        return read_answer(response.body, int(length) if length.isdigit() else None)

    def metadata(self) -> dict[str, Any]:
        """Return the model's name, version, inputs and outputs. Raises `InferenceError`."""
        return _read(self._ask_model("", "GET"))

    def statistics(self) -> dict[str, Any]:
        """Return what was served since the worker's start, as Triton counts it. Raises `InferenceError`."""
        (found,) = _read(self._ask_model("stats", "GET"))["model_stats"]
        return dict(found)

    def is_ready(self) -> bool:
        """Tell whether the model is served at this moment."""
        try:
            self._ask_model("ready", "GET")
        except InferenceError:
            return False
        return True

    def _ask_model(self, what: str, method: str, headers: str = "", body: Iterable[bytes] = ()) -> Response:
        """Ask at the model's address; a client of any model follows the agent to another one."""
        parts = list(body)
        known = self._served
        model = known or self._find_model()
        try:
            return self._ask(method, _path(model, what), headers, parts)
        except InferenceError as exc:
            if exc.status != 404 or self._wanted is not None or known is None:
                raise
        return self._ask(method, _path(self._find_model(), what), headers, parts)

    def _find_model(self) -> str:
        (found,) = _read(self._ask("GET", "/v2/models/stats"))["model_stats"]
        self._served = str(found["name"])
        return self._served

    def _ask(self, method: str, path: str, headers: str = "", body: Iterable[bytes] = ()) -> Response:
        response = self._wire.ask(method, path, headers, list(body))
        if response.status != 200:
            raise _refusal(response)
        return response


def _path(model: str, what: str) -> str:
    return f"/v2/models/{model}/{what}".rstrip("/")


def _read(response: Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(response.body, type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise InferenceError(f"an answer is no JSON document: {exc}", code="inference.protocol") from exc


def _refusal(response: Response) -> InferenceError:
    try:
        sentence = str(_read(response)["error"])
    except (InferenceError, KeyError):
        sentence = f"the agent answers with status {response.status}"
    if response.status == 404:
        return InferenceError(sentence, hint="ask for the model that it serves", code="inference.not_found",
                              status=404)  # fmt: skip
    if response.status < 500:
        return InferenceError(
            sentence, hint="`metadata()` says what the model takes", code="inference.refused",
            status=response.status,
        )  # fmt: skip
    return InferenceError(
        sentence, hint="the agent's log says more", code="inference.failed", status=response.status
    )
