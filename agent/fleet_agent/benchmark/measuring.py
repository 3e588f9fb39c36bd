"""Fill in the rows of a benchmark, each in a process of its own, one at a time."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.benchmark.rows import RUNS, WARMUPS, BenchmarkRow
from fleet_agent.errors import TransferError
from fleet_agent.worker.protocol import Failed, Limits, Measured, MeasureSpec
from fleet_shared.messages.reported import Failure
from fleet_shared.names import Digest

ROW_WITHIN_S: Final = 300.0
"""Load, compile and run: what takes longer is no choice for this device."""
LOOK_EVERY_S: Final = 0.1
NO_LIMITS: Final = Limits()
LATE: Final = "the time for the whole benchmark was over"


@dataclass(frozen=True)
class Measuring:
    """``slot``: the installed variant. ``limits``: what the worker may take, and so what is measured with.
    ``within_s``: for one row, ``total_s``: for all of them; rows that
    find it spent are not measured. ``module``: what measures; it reads a `MeasureSpec`."""

    slot: Path
    compiled: Path
    limits: Limits = NO_LIMITS
    runs: int = RUNS
    within_s: float = ROW_WITHIN_S
    total_s: float = math.inf
    module: str = "fleet_agent.worker.measure"
    aborted: threading.Event = field(default_factory=threading.Event)

    def fill_in(
        self, planned: Sequence[BenchmarkRow], done: Callable[[BenchmarkRow], None] = lambda _: None
    ) -> list[BenchmarkRow]:
        """Return the rows as they came out; raise `TransferError` (``transfer.aborted``) when told so.
        ``done`` hears of each row at once."""
        rows = []
        ended_s = time.monotonic() + self.total_s
        for row in planned:
            left_s = ended_s - time.monotonic()
            rows.append(row if row.failure is not None else self._measure(row, left_s))
            done(rows[-1])
        return rows

    def _measure(self, row: BenchmarkRow, left_s: float) -> BenchmarkRow:
        if left_s <= 0:
            return msgspec.structs.replace(row, failure=_interrupted(LATE).failure)
        spec = MeasureSpec(
            slot=str(self.slot),
            manifest=Digest(self.slot.name),
            runtime=row.runtime,
            threads=row.threads,
            runs=self.runs,
            warmups=WARMUPS,
            compiled=str(self.compiled),
            limits=self.limits,
        )
        try:
            said = self._run(msgspec.json.encode(spec), min(self.within_s, left_s))
        except OSError as exc:
            said = _interrupted(f"no process can be started: {exc}")
        if isinstance(said, Measured):
            return msgspec.structs.replace(row, measured=said)
        return msgspec.structs.replace(row, failure=said.failure)

    def _run(self, spec: bytes, within_s: float) -> Measured | Failed:
        process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        answer: list[bytes] = []
        # Reads and writes at the same time: what runtimes print must not fill the pipe.
        talk = threading.Thread(target=lambda: answer.append(process.communicate(spec)[0]), daemon=True)
        talk.start()
        ended_s = time.monotonic() + within_s
        late = False
        while talk.is_alive():
            talk.join(LOOK_EVERY_S)
            late = time.monotonic() > ended_s
            if late or self.aborted.is_set():
                process.kill()
                talk.join()
        if self.aborted.is_set():
            raise TransferError("the benchmark was ended", code="transfer.aborted")
        if late and process.returncode == -signal.SIGKILL:
            if within_s < self.within_s:
                return _interrupted(LATE)
            return _failed(f"it did not end within {within_s:g} s")
        return _parse(answer[0] if answer else b"", process.returncode)


def _parse(output: bytes, code: int) -> Measured | Failed:
    """The last line is the answer; a process that was killed has none. SIGKILL is for want of memory, or
    somebody's wish."""
    if code == -signal.SIGKILL:
        return _interrupted("killed by SIGKILL")
    if code < 0:
        return _failed(f"killed by {_signal_name(-code)}")
    try:
        return msgspec.json.decode(output.strip().rpartition(b"\n")[2], type=Measured | Failed)
    except msgspec.MsgspecError:
        return _failed(f"it gave no answer, exit code {code}")


def _failed(message: str) -> Failed:
    return Failed(failure=Failure(code="benchmark.failed", message=message))


def _interrupted(message: str) -> Failed:
    return Failed(failure=Failure(code="benchmark.interrupted", message=message))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
