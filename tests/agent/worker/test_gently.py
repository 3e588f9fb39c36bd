"""A new model loads at low priority, and nothing of that stays once it serves."""

import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fleet_agent.errors import WorkerError
from fleet_agent.worker.gently import NICER, run_gently
from fleet_agent.worker.protocol import Limits, Ready, Trial, WorkerSpec
from fleet_agent.worker.run import may_load_gently
from fleet_agent.worker_process import WorkerExited, WorkerProcess, WorkerSaid
from fleet_shared.names import AssignmentId, Digest
from tests.kit.engine import load_engine, manifest_of, write_slot
from tests.kit.waiting import wait_for


def get_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def get_threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def test_only_the_work_itself_is_nice() -> None:
    before = get_nice()
    assert run_gently(get_nice) == min(19, before + NICER)
    assert get_nice() == before


def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise WorkerError("no")

    with pytest.raises(WorkerError, match="no"):
        run_gently(fail)


def test_an_interpreter_with_one_thread_starts_none(tmp_path: Path) -> None:
    """Or that one would stay slow for ever."""
    slot = write_slot(tmp_path)
    before = get_threads()
    engine = run_gently(lambda: load_engine(slot))
    engine.prove()
    engine.infer([np.zeros((1, 8), np.float32)])
    # The thread of the work itself may take a moment to be gone.
    wait_for("all threads of the work to end", lambda: get_threads() <= before, timeout_s=10)


@dataclass(frozen=True)
class Case:
    trial: Trial | None
    threads: int
    runtime: str
    gently: bool


TRIAL = Trial(interval_s=1, lasts_s=1)


@pytest.mark.parametrize(
    "case",
    [
        Case(TRIAL, 1, "litert", gently=True),
        Case(TRIAL, 1, "tflite_runtime", gently=True),
        Case(None, 1, "litert", gently=False),  # nobody serves meanwhile
        Case(TRIAL, 2, "litert", gently=False),
        Case(TRIAL, 1, "openvino", gently=False),  # has a pool of its own
    ],
)
def test_who_is_considerate(case: Case) -> None:
    spec = WorkerSpec(
        slot="s", manifest=Digest("a" * 64), assignment=AssignmentId("a"), runtime=case.runtime,
        threads=case.threads, listen_fds=(), stats_interval_s=1, linger_s=1, trial=case.trial,
    )  # fmt: skip
    assert may_load_gently(spec) is case.gently


def test_what_comes_before_the_imports_at_low_priority_is_little() -> None:
    code = "import sys, fleet_agent.worker.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "PIL", "psutil", "msgspec", "fleet_agent.worker.run", "ai_edge_litert"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_worker_on_trial_serves_at_the_usual_priority(tmp_path: Path) -> None:
    said: queue.SimpleQueue[WorkerSaid | WorkerExited] = queue.SimpleQueue()
    slot = write_slot(tmp_path)
    spec = WorkerSpec(
        slot=str(slot), manifest=manifest_of(slot), assignment=AssignmentId("a"),
        runtime="litert", threads=1, listen_fds=(), stats_interval_s=1, linger_s=1, trial=TRIAL,
        limits=Limits(nice=2),
    )  # fmt: skip
    worker = WorkerProcess(spec, said.put)
    first = said.get(timeout=60)
    assert isinstance(first, WorkerSaid)
    assert isinstance(first.message, Ready), first
    assert b"--gently" in Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\0")
    usual = min(19, get_nice() + 2)
    wait_for("the thread that loaded to end", lambda: "gently" not in read_threads(worker.pid).values())
    nice = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in read_threads(worker.pid)}
    assert nice[worker.pid] == usual, "from this one come all that serve"
    worker.stop()
    assert worker.wait(30)


def read_threads(pid: int) -> dict[int, str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks}
