"""In place of the process that measures: ``python -m tests.kit.odd_measure`` does what the runtime's name
says, and otherwise "measures" as many microseconds as it has threads, each time counted in a file."""

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from fleet_agent.worker.protocol import Failed, Measured, MeasureSpec, SelfTest
from fleet_shared.messages.reported import Failure

if __name__ == "__main__":
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=MeasureSpec)
    with (Path(spec.slot) / "measured").open("a") as log:
        log.write(f"{spec.runtime} {spec.threads} {spec.runs} {spec.limits.cpus}\n")
    match spec.runtime:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "mute":
            sys.exit(3)
        case "chatty":
            print("x" * 200_000)
        case "refuse":
            refused = Failed(failure=Failure(code="worker.model.rejected", message="it rejects the model"))
            print(msgspec.json.encode(refused).decode())
            sys.exit(1)
    wrong = 1.0 if spec.runtime == "wrong" else 0.0
    test = SelfTest(samples=1, max_difference=wrong, tolerance=0.5, class_flips=0)
    measured = Measured(
        runtime_version="1", runs=spec.runs, load_ms=1, p50_us=float(spec.threads), p99_us=9, peak_bytes=1,
        growth_bytes=0, self_test=test,
    )  # fmt: skip
    print(msgspec.json.encode(measured).decode())
