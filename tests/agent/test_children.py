"""Children of the supervisor that hang, or cannot be started: it neither waits nor ends."""

import errno
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fleet_agent.blackbox import Doing, Vital
from fleet_agent.leash import Terms
from fleet_agent.link.backoff import Backoff
from fleet_agent.trust.protocol import MakeKey, Refused, TrustAnswer
from fleet_agent.trust_process import TrustProcess
from fleet_agent.watch import Verdict
from fleet_agent.worker.protocol import Failed, Ready, WorkerSpec
from fleet_agent.worker_process import WorkerExited, WorkerProcess, WorkerSaid
from fleet_agent.workers import HEALTHY_AFTER_S, STOP_WITHIN_S, Workers
from fleet_shared.messages.reported import Running
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName
from tests.kit.engine import manifest_of, write_slot

Said = WorkerSaid | WorkerExited
RUNNING = Running(
    model=ModelName("m"), version="1.0.0", variant=VariantName("int8"), manifest=Digest("a" * 64),
    assignment=AssignmentId("a"),
)  # fmt: skip
REQUEST = MakeKey(identity_dir="nowhere", device=DeviceId("pi-1"))


def spec(slot: Path) -> WorkerSpec:
    return WorkerSpec(
        slot=str(slot), manifest=manifest_of(slot), assignment=AssignmentId("a"), runtime="litert", threads=1,
        listen_fds=(), stats_interval_s=1.0, linger_s=0.1,
    )  # fmt: skip


def refuse(*_args: object, **_options: object) -> None:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def find_open() -> set[tuple[str, int]]:
    """What is open, each by a name and number of its own: what an earlier test left may be closed at any
    moment."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add((str(file.readlink()), file.stat().st_ino))
    return found


def stop_process(worker: WorkerProcess) -> None:
    """Stop it (SIGSTOP): it hangs for everybody but the kernel."""
    os.kill(worker.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)


# -- the trust child


def test_a_trust_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse)
    answer = TrustProcess().ask(REQUEST)
    assert isinstance(answer, Refused)
    assert answer.retry


@pytest.mark.parametrize("missing", ["process", "thread"])
def test_whoever_asks_for_a_verification_gets_an_answer(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    answers: queue.SimpleQueue[TrustAnswer] = queue.SimpleQueue()
    if missing == "thread":
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    else:
        monkeypatch.setattr(TrustProcess, "ask", lambda _self, _request: 1 / 0)
    TrustProcess().start(REQUEST, answers.put)
    answer = answers.get(timeout=30)
    assert isinstance(answer, Refused)
    assert answer.retry


# -- worker processes


@pytest.mark.parametrize("missing", ["process", "thread", "socket"])
def test_a_worker_that_cannot_be_started_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    before = find_open()
    match missing:
        case "process":
            monkeypatch.setattr(subprocess, "Popen", refuse)
        case "thread":
            monkeypatch.setattr(threading.Thread, "start", no_thread)
        case _:
            monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(OSError, match=r"Resource|thread"):
        WorkerProcess(spec(tmp_path), lambda _said: None)
    assert find_open() <= before


def test_a_worker_that_hangs_holds_nobody_up_and_is_killed_in_its_time(tmp_path: Path) -> None:
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    workers = Workers(
        make_spec=lambda _running, _trial_s: spec(tmp_path),
        notify=said.put,
        backoff=Backoff(0, 0, lambda: 0.0),
    )
    workers.try_out(RUNNING, Terms(1.0))
    worker = workers.candidate
    assert isinstance(worker, WorkerProcess)
    stop_process(worker)
    begin = time.monotonic()
    workers.dismiss_candidate()
    workers.tick(100.0)
    for second in range(int(STOP_WITHIN_S) - 1):
        workers.tick(101.0 + second)
    assert time.monotonic() - begin < STOP_WITHIN_S / 2, "the loop was held up"
    assert not worker.wait(0.05)
    workers.tick(110.0)
    exited = said.get(timeout=30)
    assert isinstance(exited, WorkerExited)
    assert "killed, since it did not end within 5 s" in exited.end.failure.message
    workers.forget(exited.worker)
    workers.close()


def test_a_worker_tells_why_it_cannot_run_and_its_end_follows(tmp_path: Path) -> None:
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    worker = WorkerProcess(spec(tmp_path / "no-slot"), said.put)
    first, second = said.get(timeout=60), said.get(timeout=60)
    assert isinstance(first, WorkerSaid)
    assert isinstance(first.message, Failed)
    assert isinstance(second, WorkerExited)
    assert "exit code 1" in second.end.failure.message
    assert worker.wait(0)


def test_a_worker_that_babbles_is_ended_and_its_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_agent.worker_process.WORKER_MODULE", "tests.kit.babbling_worker")
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    WorkerProcess(spec(tmp_path / "no-slot"), said.put)
    exited = said.get(timeout=30)
    assert isinstance(exited, WorkerExited)
    assert exited.end.failure.code == "worker.protocol"


def test_the_end_of_a_process_says_what_it_was_doing_at_that_instant(tmp_path: Path) -> None:
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    worker = WorkerProcess(spec(write_slot(tmp_path)), said.put)
    first = said.get(timeout=60)
    assert isinstance(first, WorkerSaid)
    assert isinstance(first.message, Ready)
    vital = worker.look()
    assert (vital.doing, vital.started) == (Doing.READY, first.message.self_test.samples)
    assert vital.ended == vital.started
    assert (vital.rss_bytes or 0) > 5_000_000
    os.kill(worker.pid, signal.SIGSEGV)
    while not isinstance(exited := said.get(timeout=60), WorkerExited):
        pass
    assert exited.end.failure.code == "worker.crashed"
    assert exited.end.detail == {
        "doing": "ready", "inferences": vital.ended, "in_inference": False, "rss_bytes": vital.rss_bytes,
        "signal": "SIGSEGV",
    }  # fmt: skip


def test_the_agent_ends_with_workers_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_agent.workers.STOP_WITHIN_S", 0.2)
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    workers = Workers(
        make_spec=lambda _running, _trial_s: spec(tmp_path),
        notify=said.put,
        backoff=Backoff(0, 0, lambda: 0.0),
    )
    workers.keep(RUNNING)
    worker = workers.active
    assert isinstance(worker, WorkerProcess)
    stop_process(worker)
    workers.close()
    assert worker.wait(30)
    assert isinstance(said.get(timeout=30), WorkerExited)


def test_a_worker_that_served_long_is_started_again_at_once() -> None:
    backoff = Backoff(1.0, 60.0, lambda: 1.0)
    workers = Workers(lambda *_: spec(Path("slot")), lambda _: None, backoff, start=lambda *_: Silent())
    workers.keep(RUNNING)
    now_s = 0.0

    def end_after(seconds: float) -> float | None:
        """Let it serve, end it, and tell how long the restart waits; then let it happen."""
        nonlocal now_s
        assert workers.active is not None
        workers.on_serving(workers.active)
        for _ in range(int(seconds)):
            now_s += 1.0
            workers.tick(now_s)
        assert workers.active is not None
        workers.forget(workers.active)
        waits_s = workers._restart_in_s
        for _ in range(70):
            now_s += 1.0
            workers.tick(now_s)
            if workers.active is not None:
                break
        return waits_s

    assert [end_after(1) for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert end_after(HEALTHY_AFTER_S + 2) == 1.0


class Silent:
    """A worker that does nothing, and is spoken to by nobody."""

    pid = 1
    spec = spec(Path("slot"))

    def serve(self) -> None: ...

    def drain(self, linger_s: float | None = None) -> None: ...

    def stop(self) -> None: ...

    def kill(self, verdict: Verdict) -> None: ...

    def look(self) -> Vital:
        return Vital(Doing.STARTING)

    def wait(self, timeout_s: float) -> bool:
        return timeout_s >= 0
