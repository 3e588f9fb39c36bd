"""Which answer belongs to which request: paths, methods, headers and status codes, no sockets."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from fleet_agent.errors import WorkerError
from fleet_agent.worker.http1 import Answer, Head, Refused
from fleet_agent.worker.inflate import inflate
from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.tensor_data import BadRequest

log = logging.getLogger(__name__)

BINARY: Final = "application/octet-stream"
JSON_BYTES: Final = "Inference-Header-Content-Length"
METHODS: Final = frozenset({"GET", "HEAD", "POST"})


class Routes:
    """All that one model answers. Called from many threads."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        model = f"/v2/models/{protocol.model}"
        version = f"{model}/versions/{protocol.version}"
        ready = {"name": protocol.model, "ready": True}
        self._documents: dict[str, Callable[[], dict[str, Any]]] = {
            "/v2": protocol.server_metadata,
            "/v2/health/live": lambda: {"live": True},
            "/v2/health/ready": lambda: {"ready": True},
            "/v2/models/stats": protocol.statistics,
        }
        for base in (model, version):
            self._documents[base] = protocol.model_metadata
            self._documents[f"{base}/ready"] = lambda: ready
            self._documents[f"{base}/stats"] = protocol.statistics
        self._infer = frozenset({f"{model}/infer", f"{version}/infer"})
        self._serves = f"this agent serves {version} and {model}/infer"

    @property
    def body_bytes_max(self) -> int:
        return self._protocol.body_bytes_max

    def answer(self, head: Head, body: memoryview) -> Answer:
        """Return the answer to any request that could be read. Raises `Refused` where the connection has
        to end as well."""
        if head.method not in METHODS:
            raise Refused(501, f"the method {head.method} is not known here")
        path = (unquote(head.path) if "%" in head.path else head.path).rstrip("/")
        if path in self._infer:
            if head.method != "POST":
                return refuse(405, f"{path} takes POST", ("Allow", "POST"))
            return self._infer_safely(head, body)
        document = self._documents.get(path)
        if document is None:
            return refuse(404, f"nothing at {path}; {self._serves}")
        if head.method == "POST":
            return refuse(405, f"{path} takes GET", ("Allow", "GET, HEAD"))
        return Answer(200, (msgspec.json.encode(document()),))

    def _infer_safely(self, head: Head, body: memoryview) -> Answer:
        try:
            return self._infer_once(head.headers, body)
        except BadRequest as exc:
            return refuse(400, str(exc))
        except WorkerError as exc:
            return refuse(500, str(exc))
        except Refused as exc:  # a compressed body: it was read, so the connection goes on
            return refuse(exc.status, str(exc))
        except MemoryError:
            raise
        except Exception as exc:  # the guard of the connection: a client gets an answer, whatever happens
            log.exception("a request failed")
            return refuse(500, f"this is a defect of the agent: {type(exc).__name__}")

    def _infer_once(self, headers: Mapping[str, str], body: memoryview) -> Answer:
        if encoding := headers.get("content-encoding"):
            body = inflate(body, encoding, self.body_bytes_max)
        reply = self._protocol.infer(body, _parse_json_bytes(headers, len(body)))
        if not reply.binary:
            return Answer(200, (reply.document,))
        length = (JSON_BYTES, str(len(reply.document)))
        return Answer(200, (reply.document, *reply.binary), BINARY, (length,))


def refuse(status: int, sentence: str, *headers: tuple[str, str]) -> Answer:
    """Return the protocol's error document."""
    return Answer(status, (msgspec.json.encode({"error": sentence}),), headers=headers)


def _parse_json_bytes(headers: Mapping[str, str], body_bytes: int) -> int | None:
    text = headers.get(JSON_BYTES.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 18) or int(text) > body_bytes:
        raise BadRequest(f"{JSON_BYTES} must be a number of bytes within the body of {body_bytes}")
    return int(text)
