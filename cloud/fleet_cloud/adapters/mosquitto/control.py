"""Questions to Mosquitto's dynamic security, and its answers, on the controller's own connection.

The plugin answers on one topic for all administrators, at QoS 0: an answer is told by what it says again of
the question, and one that does not come is an error, for the caller to ask again.
"""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from uuid import uuid4

from fleet_cloud.adapters.mosquitto.commands import Command, encode
from fleet_cloud.errors import Unavailable

QUESTIONS: Final = "$CONTROL/dynamic-security/v1"
ANSWERS: Final = "$CONTROL/dynamic-security/v1/response"
ANSWER_TIMEOUT_S: Final = 10.0
_HINT: Final = "is the plugin loaded, and may the controller administer it? fleet broker config writes both"


class Line(Protocol):
    """The controller's connection to the broker."""

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Subscribe to ``topic`` on each connection, and hand over what comes."""

    def send(self, topic: str, payload: bytes, *, retain: bool) -> object | None:
        """Send, or return none while the broker is away."""


class Control:
    def __init__(self, line: Line, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._line, self._timeout_s = line, timeout_s
        self._waiting: dict[str, list[list[dict[str, Any]]]] = {}
        self._heard = threading.Condition()
        line.listen(ANSWERS, self._on_answer)

    def run(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Return what the plugin says to each command; ``data`` is in it if it has any. Raises
        `Unavailable`: ``broker.control`` without an answer, ``broker.control.refused`` for an error that
        the command does not tolerate. Commands are carried out one by one: those before an error are."""
        correlation = uuid4().hex
        with self._heard:
            self._waiting[correlation] = []
        try:
            answers = self._ask(encode(commands, correlation), correlation)
        finally:
            with self._heard:
                del self._waiting[correlation]
        for command, answer in zip(commands, answers, strict=True):
            _check(command, answer)
        return answers

    def _ask(self, payload: bytes, correlation: str) -> list[dict[str, Any]]:
        if self._line.send(QUESTIONS, payload, retain=False) is None:
            raise Unavailable("the broker is away", hint="it is tried again", code="broker.control")
        with self._heard:
            if not self._heard.wait_for(lambda: self._waiting[correlation], self._timeout_s):
                raise Unavailable(
                    f"the broker's dynamic security did not answer within {self._timeout_s:g} s",
                    hint=_HINT,
                    code="broker.control",
                )
            return self._waiting[correlation][0]

    def _on_answer(self, payload: bytes) -> None:
        """Called by the connection's thread."""
        answers = _parse(payload)
        if answers:
            with self._heard:
                waiting = self._waiting.get(str(answers[0].get("correlationData")))
                if waiting is not None:
                    waiting.append(answers)
                    self._heard.notify_all()


def _parse(payload: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(payload)["responses"]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) and all(isinstance(answer, dict) for answer in found) else []


def _check(command: Command, answer: dict[str, Any]) -> None:
    error = answer.get("error")
    if error is not None and error != command.tolerated:
        raise Unavailable(
            f"the broker's dynamic security refused {command.name}: {error}",
            hint="it is tried again; the broker's log tells more",
            code="broker.control.refused",
        )
