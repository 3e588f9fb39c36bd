"""Both sides of a bridge without processes: a broker that a test drives, a worker that a test scripts."""

import json
import queue
from collections.abc import Callable
from typing import Any

from fleet_agent.bridge.answers import Answer, OutputTensor
from fleet_agent.bridge.broker import Arrived, Confirmed, Connected, Disconnected
from fleet_agent.bridge.desk import Publication
from fleet_agent.bridge.loop import Event
from fleet_agent.bridge.payloads import ModelInfo, Request, TensorInfo

INFO = ModelInfo(["1.0.0"], [TensorInfo("x", "FP32", [-1, 2])], [])


class FakeBroker:
    """Confirms what is published, unless ``deaf``."""

    def __init__(self, inbox: "queue.SimpleQueue[Event]") -> None:
        self.attempt = 0
        self.deaf = False
        self.refusal = ""
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.acknowledged: list[int] = []
        self.statuses: list[dict[str, Any]] = []
        self.session_kept = False
        self.closed = False
        self._inbox = inbox

    def connect(self) -> None:
        self.attempt += 1
        self._inbox.put(Connected(self.attempt, self.session_kept))

    def deliver(
        self,
        number: int | None,
        payload: bytes,
        *,
        topic: str = "in/a",
        again: bool = False,
        attempt: int = 0,
    ) -> None:
        self._inbox.put(Arrived(attempt or self.attempt, topic, payload, number, again, None))

    def break_off(self) -> None:
        self._inbox.put(Disconnected(self.attempt, "gone"))

    def publish(self, publication: Publication) -> int | None:
        self.published.append((publication.topic, json.loads(publication.payload)))
        if not self.deaf:
            self._inbox.put(Confirmed(self.attempt, len(self.published), self.refusal))
        return len(self.published)

    def publish_status(self, payload: bytes) -> None:
        self.statuses.append(json.loads(payload))

    def acknowledge(self, number: int) -> None:
        self.acknowledged.append(number)

    def drop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class ScriptedInference:
    """Does what ``step`` does with a request; ``info`` is the model as it is now."""

    def __init__(self, step: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self.info = INFO
        self.step = step
        self.asked: list[dict[str, Any]] = []

    def describe(self, _model: str) -> ModelInfo:
        return self.info

    def infer(self, model: str, request: Request) -> Answer:
        self.asked.append(request.document)
        self.step(request.document)
        output = OutputTensor("y", "FP32", [1, 2], [0.25, 0.75])
        return Answer(model, self.info.versions[0], [output], {"label": "b", "score": 0.75})
