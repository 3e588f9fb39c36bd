"""What this worker does, written into its black box: every call of the runtime and of the model."""

import threading
from collections.abc import Sequence
from typing import Final

from fleet_agent.blackbox import BlackBox, Doing
from fleet_agent.runtimes.port import Array, Model, Runtime

BEAT_EVERY_S: Final = 1.0


class Activity:
    """Safe from any thread: counting up takes a read and a write."""

    def __init__(self, box: BlackBox) -> None:
        self._box = box
        self._lock = threading.Lock()

    def do(self, doing: Doing) -> None:
        self._box.do(doing)

    def begin(self) -> None:
        """An inference starts; `end` follows, whatever happens."""
        with self._lock:
            self._box.count_started()

    def end(self) -> None:
        with self._lock:
            self._box.count_ended()

    def start_beating(self, stop: threading.Event) -> None:
        """Show from now on that threads of this process get to run."""
        threading.Thread(target=self._beat, args=(stop,), name="beat", daemon=True).start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_EVERY_S):
            self._box.beat()


class WatchedRuntime:
    """A runtime whose loading, and whose models' inferences, are seen from outside."""

    def __init__(self, real: Runtime, activity: Activity) -> None:
        self._real, self._activity = real, activity
        self.name, self.version = real.name, real.version

    def load(self, path: str, threads: int) -> Model:
        self._activity.do(Doing.LOADING)
        return WatchedModel(self._real.load(path, threads), self._activity)


class WatchedModel:
    def __init__(self, real: Model, activity: Activity) -> None:
        self._real, self._activity = real, activity
        self.inputs, self.outputs = real.inputs, real.outputs

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        self._activity.begin()
        try:
            return self._real.invoke(inputs)
        finally:
            self._activity.end()
