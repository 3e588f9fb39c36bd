"""A real Mosquitto on a port of its own, that can be killed and started again."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.ports import free_port, is_open
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for


@dataclass
class Mosquitto:
    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([binary, "-c", str(config)], stdout=log, stderr=log)
        wait_for("mosquitto to listen", self._listens, timeout_s=20)

    def pause(self) -> None:
        """Let it keep its connections and say nothing any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end_process(process, signal.SIGKILL)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
        return is_open(self.port)


@contextmanager
def mosquitto_broker(folder: Path) -> Iterator[Mosquitto]:
    """A broker that runs, and is gone at the end however far it came."""
    broker = Mosquitto(folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
