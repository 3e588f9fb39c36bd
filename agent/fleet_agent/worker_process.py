"""One inference worker as the supervisor sees it: commands in, messages and an end out."""

import errno
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fleet_agent.blackbox import BlackBox, Vital, create_shared_memory, load_rss_bytes
from fleet_agent.ports import Worker
from fleet_agent.watch import Verdict
from fleet_agent.worker.protocol import Drain, FromWorker, Serve, ToWorker, WorkerSpec
from fleet_agent.worker_end import WorkerEnd, explain_end

log = logging.getLogger(__name__)

WORKER_MODULE = "fleet_agent.worker"


@dataclass(frozen=True)
class WorkerSaid:
    """``worker`` tells which process spoke: an old one may speak after a new one was started."""

    worker: Worker
    message: FromWorker


@dataclass(frozen=True)
class WorkerExited:
    worker: Worker
    end: WorkerEnd


Notify = Callable[[WorkerSaid | WorkerExited], None]


class WorkerProcess:
    """``notify`` is called from a reading thread and must only put the message on a queue.

    Nothing here waits for the process but `wait`: the reading thread reaps it. Raises `OSError` when
    it cannot be started (no memory, no process, no file), with nothing left behind.
    """

    def __init__(self, spec: WorkerSpec, notify: Notify) -> None:
        self._spec = spec
        self._notify = notify
        self._verdict: Verdict | None = None
        self._rss_bytes: int | None = None
        memory = create_shared_memory()
        try:
            self._box = BlackBox(memory)
            self._control, self._process = _start(spec, memory)
        finally:
            os.close(memory)
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

    def drain(self, linger_s: float | None = None) -> None:
        self._send(Drain(linger_s=linger_s))

    def stop(self) -> None:
        """Ask it to end: a closed control socket suffices for a healthy worker."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the worker's control socket was closed already")

    def kill(self, verdict: Verdict) -> None:
        """End it; the first verdict is the reason of its end."""
        self._verdict = self._verdict or verdict
        self._process.kill()

    def look(self) -> Vital:
        """What it is doing. Its memory is that of the last look at which it lived."""
        self._rss_bytes = load_rss_bytes(self.pid) or self._rss_bytes
        return self._box.read(self._rss_bytes)

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
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                log.warning("worker %s does not speak the protocol: %s", self.pid, exc)
                self.kill(Verdict(code="worker.protocol", why="it does not speak the protocol"))
        code = self._process.wait()
        self._control.close()
        self._notify(WorkerExited(self, explain_end(code, self._box.read(self._rss_bytes), self._verdict)))


def _start(spec: WorkerSpec, memory: int) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Return this end of the control socket, and the process. Raises `OSError`."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", WORKER_MODULE]
    command += ["--control", str(theirs.fileno()), "--vitals", str(memory)]
    if spec.trial is not None:  # another one serves
        command.append("--gently")
    try:
        process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), memory, *spec.listen_fds),
            stdin=subprocess.DEVNULL,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, process
