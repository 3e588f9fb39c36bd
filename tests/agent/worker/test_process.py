"""The worker as a process: its signals, and its end when nobody is there to work for."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from fleet_agent.errors import SettingsError
from fleet_agent.serving import Listeners
from fleet_agent.worker.protocol import (
    Drain,
    Drained,
    FromWorker,
    Limits,
    Ready,
    Serve,
    Serving,
    SourceFailed,
    SourceSpec,
    Stats,
    WorkerSpec,
)
from fleet_shared.names import AssignmentId
from tests.kit.engine import manifest_of, write_slot
from tests.kit.inference import infer, load
from tests.kit.ports import free_port

WAIT_S = 30
NO_LIMITS = Limits()
INPUT = np.full((1, 8), 0.5, dtype=np.float32)


class Worker:
    """A worker process and the supervisor's end of its line."""

    def __init__(
        self,
        slot: Path,
        listener: socket.socket,
        source: SourceSpec | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        ours, theirs = socket.socketpair()
        self.control = ours
        self.control.settimeout(WAIT_S)
        self.lines = ours.makefile("rb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleet_agent.worker", "--control", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), listener.fileno()),
        )
        theirs.close()
        self.send(
            WorkerSpec(
                slot=str(slot), manifest=manifest_of(slot), assignment=AssignmentId("a"), runtime="litert",
                threads=1, listen_fds=(listener.fileno(),), stats_interval_s=0.2, linger_s=0.1, source=source,
                limits=limits,
            )
        )  # fmt: skip

    def send(self, message: object) -> None:
        self.control.sendall(msgspec.json.encode(message) + b"\n")

    def read(self, kind: type[FromWorker]) -> FromWorker:
        """Return the next message of ``kind``."""
        while line := self.lines.readline():
            message: FromWorker = msgspec.json.decode(line, type=FromWorker)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"the worker ended before it said {kind}")

    def hang_up(self) -> None:
        self.lines.close()
        self.control.close()


@contextmanager
def started(
    slot: Path, source: SourceSpec | None = None, limits: Limits = NO_LIMITS
) -> Iterator[tuple[Worker, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = Worker(slot, listener, source, limits)
        try:
            yield worker, listener.getsockname()[1]
        finally:
            worker.hang_up()
            worker.process.kill()
            worker.process.wait(WAIT_S)


def test_a_worker_serves_through_the_signals_of_its_group_and_leaves_when_told(tmp_path: Path) -> None:
    with started(write_slot(tmp_path)) as (worker, port):
        worker.read(Ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            worker.process.send_signal(number)
        worker.send(Serve())
        assert load(port, "health/ready") == {"ready": True}
        worker.read(Stats)
        worker.send(Drain())
        worker.read(Drained)
        assert worker.process.wait(WAIT_S) == 0


def test_a_worker_that_still_loads_ends_with_its_supervisor(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.mkdir()
    os.mkfifo(slot / "manifest.json")  # whoever reads it waits for ever
    with started(slot) as (worker, _):
        worker.hang_up()
        assert worker.process.wait(WAIT_S) == 0


def test_a_worker_takes_less_of_the_machine_than_its_agent(tmp_path: Path) -> None:
    limits = Limits(nice=3, cpus=1, oom_score_adj=700)
    with started(write_slot(tmp_path), limits=limits) as (worker, _):
        worker.read(Ready)
        process = psutil.Process(worker.process.pid)
        assert process.nice() == psutil.Process().nice() + 3
        assert len(process.cpu_affinity() or ()) == 1
        assert Path(f"/proc/{worker.process.pid}/oom_score_adj").read_text().strip() == "700"
        threads = [Path(f"/proc/{thread.id}/stat").read_text().split()[18] for thread in process.threads()]
        assert set(threads) == {str(process.nice())}, "threads that began before are no exception"


def test_the_last_window_is_as_long_as_it_was_and_loses_nothing(tmp_path: Path) -> None:
    with started(write_slot(tmp_path)) as (worker, port):
        worker.read(Ready)
        worker.send(Serve())
        worker.read(Serving)
        told = [worker.read(Stats)]
        for _ in range(3):
            infer(port, "tiny", [("x", INPUT)])
        worker.send(Drain(linger_s=0.0))
        while line := worker.lines.readline():
            told.append(msgspec.json.decode(line, type=FromWorker))
        stats = [one for one in told if isinstance(one, Stats)]
        assert sum(one.requests for one in stats) == 3
        assert all(one.window_ms > 0 for one in stats)
        assert worker.process.wait(WAIT_S) == 0


def test_a_missing_source_is_told_and_the_model_serves_on(tmp_path: Path) -> None:
    source = SourceSpec(path=str(tmp_path / "nothing"), rate_hz=10)
    with started(write_slot(tmp_path / "slot"), source) as (worker, port):
        worker.read(Ready)
        worker.send(Serve())
        said = worker.read(SourceFailed)
        assert isinstance(said, SourceFailed)
        assert said.failure.code == "worker.source.missing"
        stats = worker.read(Stats)
        assert isinstance(stats, Stats)
        assert (stats.requests, stats.errors) == (0, 0)
        assert load(port, "health/ready") == {"ready": True}


def test_a_port_that_is_given_back_in_a_moment_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(SettingsError, match=str(port)) as caught:
            Listeners(port, tmp_path / "s", bind_for_s=0.0)
        assert caught.value.code == "port.in_use"
        timer = threading.Timer(0.3, held.close)
        timer.start()
        listeners = Listeners(port, tmp_path / "s")
        assert listeners.port == port
        listeners.close()
        timer.join()


def test_a_port_that_may_not_be_opened_is_not_waited_for(tmp_path: Path) -> None:
    def refuse(*_args: object, **_options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_server", refuse)
        with pytest.raises(SettingsError) as caught:
            Listeners(free_port(), tmp_path / "s")
    assert caught.value.code == "port.refused"
