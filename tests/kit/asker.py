"""A client that asks a device for inference all the time, and remembers every answer."""

import threading
import time
import urllib.error
from dataclasses import dataclass, field
from http.client import HTTPException

import numpy as np
from typing_extensions import Self

from tests.kit.inference import infer

INPUT = np.full((1, 8), 0.5, dtype=np.float32)


@dataclass(frozen=True)
class Answer:
    """``version`` that answered, or why nobody did."""

    version: str | None
    trouble: str = ""


@dataclass
class Asker:
    """Asks every ``every_s``, each time on a connection of its own."""

    port: int
    model: str
    every_s: float = 0.02
    timeout_s: float = 30.0
    answers: list[Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask_on, name="asker", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self.timeout_s + 5)

    @property
    def versions(self) -> list[str | None]:
        """Who answered, each once as long as it goes on; none stands for nobody."""
        found: list[str | None] = []
        for answer in list(self.answers):
            if not found or found[-1] != answer.version:
                found.append(answer.version)
        return found

    def count(self, version: str | None) -> int:
        return sum(answer.version == version for answer in list(self.answers))

    def _ask_on(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + self.every_s, time.monotonic())
            self.answers.append(self._ask())

    def _ask(self) -> Answer:
        try:
            answer = infer(self.port, self.model, [("x", INPUT)], timeout_s=self.timeout_s)
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(None, f"{exc.code} {exc.read().decode(errors='replace')}")
        except (OSError, HTTPException, ValueError) as exc:
            return Answer(None, repr(exc))
        return Answer(str(answer["model_version"]))
