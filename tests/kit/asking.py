"""A client that keeps asking a device's model, and remembers who answered."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tests.kit.inference import infer
from tests.kit.world import Agent

INPUT = np.full((1, 8), 0.5, dtype=np.float32)
ASK_EVERY_S = 0.05


@dataclass
class Asking:
    """``answers``: how often each version answered; ``failures``: what was not answered; ``said``: each
    version with what it answered, which is always the same of a model that is what it was."""

    port: int
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    said: set[tuple[str, str]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(ASK_EVERY_S):
            try:
                answer = infer(self.port, "tiny", [("x", INPUT)])
            except (OSError, LookupError, ValueError) as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")
            else:
                self.answers[answer["model_version"]] += 1
                self.said.add((answer["model_version"], str(answer["outputs"][0]["data"])))

    def end(self) -> None:
        self._stop.set()


@contextmanager
def asking(port: int) -> Iterator[Asking]:
    """Ask in a thread of its own until the end of the block; at least once."""
    one = Asking(port)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
        thread.join(4 * ASK_EVERY_S)
    finally:
        one.end()
        thread.join()


@contextmanager
def answering(agent: Agent, version: str) -> Iterator[None]:
    """From here to the end of the block this version answers, each time."""
    with asking(agent.http_port) as client:
        yield
    assert client.failures == []
    assert set(client.answers) == {version}
