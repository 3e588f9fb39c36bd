"""What the bridge publishes: answers, troubles, and its own state. Pure."""

from typing import Any

import msgspec

from fleet_agent.bridge.desk import Counts, Message, Publication
from fleet_agent.bridge.payloads import Id
from fleet_agent.bridge.settings import TOPIC, Route
from fleet_shared.errors import FleetError


class OutputTensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class Answer(msgspec.Struct, frozen=True):
    """The protocol's answer, as far as it is needed."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    parameters: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``latency_us``: from the arrival of the message to the answer of the worker; of this the worker
    took ``inference_us``, with the way there and back. ``label`` and ``score`` of a classifier."""

    topic: str
    model: str
    version: str
    latency_us: int
    inference_us: int
    id: str | int | None = None
    label: str | None = None
    score: float | None = None
    outputs: list[OutputTensor] | None = None


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a message has no answer."""

    topic: str
    code: str
    message: str
    hint: str = ""
    id: str | int | None = None


class BridgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Retained; offline by the will. Counts since the start of the bridge. ``worker``: whether the
    last try reached it. ``refused``: answers that the broker did not take, for want of a right."""

    online: bool
    received: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    held: int = 0
    worker: bool = False
    refused: int = 0


def tell_result(
    message: Message, route: Route, answer: Answer, id_: Id, *, latency_us: int, inference_us: int
) -> Publication:
    label, score = answer.parameters.get("label"), answer.parameters.get("score")
    result = Result(
        topic=message.topic,
        model=answer.model_name,
        version=answer.model_version,
        latency_us=latency_us,
        inference_us=inference_us,
        id=id_,
        label=label if isinstance(label, str) else None,
        score=score if isinstance(score, (int, float)) else None,
        outputs=answer.outputs if route.outputs else None,
    )
    return _publish(route.output, message, msgspec.json.encode(result))


def tell_trouble(message: Message, route: Route, error: FleetError, id_: Id) -> Publication:
    trouble = Trouble(topic=message.topic, code=error.code, message=error.message, hint=error.hint, id=id_)
    return _publish(route.errors, message, msgspec.json.encode(trouble))


def tell_status(counts: Counts, held: int, *, worker: bool) -> bytes:
    return msgspec.json.encode(
        BridgeStatus(
            online=True,
            received=counts.received,
            answered=counts.answered,
            failed=counts.failed,
            dropped=counts.dropped,
            held=held,
            worker=worker,
            refused=counts.refused,
        )
    )


def _publish(topic: str, message: Message, payload: bytes) -> Publication:
    return Publication(topic.replace(TOPIC, message.topic), payload, message.correlation)
