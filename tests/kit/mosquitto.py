"""A real Mosquitto on a port of its own, that can be killed and started again."""

import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.ports import free_port, is_open
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
        wait_for("mosquitto to listen", lambda: is_open(self.port), timeout_s=20)

    def pause(self) -> None:
        """Let it keep its connections and say nothing any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
