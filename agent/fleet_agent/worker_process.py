"""One inference worker as the supervisor sees it: commands in, messages and an end out."""

import errno
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fleet_agent.ports import Worker
from fleet_agent.worker.protocol import Drain, FromWorker, Serve, ToWorker, WorkerSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSaid:
    """``worker`` tells which process spoke: an old one may speak after a new one was started."""

    worker: Worker
    message: FromWorker


@dataclass(frozen=True)
class WorkerExited:
    worker: Worker
    evidence: str


Notify = Callable[[WorkerSaid | WorkerExited], None]


class WorkerProcess:
    """``notify`` is called from a reading thread and must only put the message on a queue.

    Nothing here waits for the process but `wait`: the reading thread reaps it. Raises `OSError` when
    it cannot be started (no memory, no process, no file), with nothing left behind.
    """

    def __init__(self, spec: WorkerSpec, notify: Notify) -> None:
        self._spec = spec
        self._notify = notify
        self._why_killed = ""
        self._control, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fleet_agent.worker", "--control", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *spec.listen_fds),
                stdin=subprocess.DEVNULL,
            )
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        self._start_reader()
        self._send_raw(msgspec.json.encode(spec))

    @property
    def spec(self) -> WorkerSpec:
        return self._spec

    @property
    def pid(self) -> int:
        return self._process.pid

    def serve(self) -> None:
        self._send(Serve())

    def drain(self) -> None:
        self._send(Drain())

    def stop(self) -> None:
        """Ask it to end: a closed control socket suffices for a healthy worker."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the worker's control socket was closed already")

    def kill(self, why: str) -> None:
        """End it; ``why`` becomes a part of the evidence of its end."""
        self._why_killed = self._why_killed or why
        self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Tell whether it ended within ``timeout_s``."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _start_reader(self) -> None:
        try:
            threading.Thread(target=self._read, name="worker-reader", daemon=True).start()
        except RuntimeError as exc:
            self._process.kill()
            self._process.wait()
            self._control.close()
            raise OSError(errno.EAGAIN, "no thread can be started") from exc

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
                self.kill("it does not speak the protocol")
        code = self._process.wait()
        self._control.close()
        self._notify(WorkerExited(self, self._describe_exit(code)))

    def _describe_exit(self, code: int) -> str:
        if self._why_killed:
            return f"killed, since {self._why_killed}"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
