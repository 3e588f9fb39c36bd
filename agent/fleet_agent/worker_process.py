"""One inference worker as the supervisor sees it: commands in, messages and an end out."""

import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from fleet_agent.worker.protocol import Drain, FromWorker, Serve, ToWorker, WorkerSpec

log = logging.getLogger(__name__)

KILL_AFTER_S: Final = 5.0


@dataclass(frozen=True)
class WorkerSaid:
    """``worker`` tells which process spoke: an old one may speak after a new one was started."""

    worker: "WorkerProcess"
    message: FromWorker


@dataclass(frozen=True)
class WorkerExited:
    worker: "WorkerProcess"
    evidence: str


class WorkerProcess:
    """``notify`` is called from a reading thread and must only put the message on a queue."""

    def __init__(self, spec: WorkerSpec, notify: Callable[[WorkerSaid | WorkerExited], None]) -> None:
        self.spec = spec
        self._notify = notify
        ours, theirs = socket.socketpair()
        self._control = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fleet_agent.worker", "--control", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), *spec.listen_fds),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._send_raw(msgspec.json.encode(spec))
        threading.Thread(target=self._read, name="worker-reader", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def serve(self) -> None:
        self._send(Serve())

    def drain(self) -> None:
        self._send(Drain())

    def stop(self) -> None:
        """End it: closing the control socket suffices for a healthy worker, a kill for any other."""
        with_deadline = self._process
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the worker's control socket was closed already")
        try:
            with_deadline.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            with_deadline.kill()
            with_deadline.wait()

    def kill(self) -> None:
        self._process.kill()

    def _send(self, message: ToWorker) -> None:
        self._send_raw(msgspec.json.encode(message))

    def _send_raw(self, raw: bytes) -> None:
        try:
            self._control.sendall(raw + b"\n")
        except OSError:
            log.info("worker %s is gone; its end is reported on its own", self.pid)

    def _read(self) -> None:
        with self._control.makefile("rb") as reader:
            try:
                for line in reader:
                    self._notify(WorkerSaid(self, msgspec.json.decode(line, type=FromWorker)))
            except (OSError, msgspec.MsgspecError) as exc:
                log.warning("worker %s does not speak the protocol: %s", self.pid, exc)
                self._process.kill()
        code = self._process.wait()
        self._control.close()
        self._notify(WorkerExited(self, _describe_exit(code)))


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
