"""The inference worker: ``python -m fleet_agent.worker --control FD``. See `protocol`."""

import argparse
import logging
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import psutil

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.control import Control
from fleet_agent.worker.engine import Engine, SelfTestFailed
from fleet_agent.worker.gently import may_load_gently, run_gently
from fleet_agent.worker.interval import Interval
from fleet_agent.worker.oip import Protocol
from fleet_agent.worker.protocol import (
    Drain,
    Drained,
    Failed,
    Ready,
    Serve,
    Serving,
    SourceFailed,
    Stats,
    ToWorker,
    WorkerSpec,
)
from fleet_agent.worker.replay import replay
from fleet_agent.worker.server import Server
from fleet_agent.worker.slot import load_slot
from fleet_agent.worker.statistics import Statistics, percentile
from fleet_shared.messages.reported import Failure


def main() -> int:
    parser = argparse.ArgumentParser(prog="fleet_agent.worker")
    parser.add_argument("--control", type=int, required=True, help="inherited socket to the supervisor")
    # A Ctrl-C in a terminal and the SIGTERM of a service manager reach the whole group: they are the
    # supervisor's to handle, which ends its workers through the control socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s worker: %(message)s")
    control = Control(socket.socket(fileno=parser.parse_args().control))
    spec = msgspec.json.decode(control.read(), type=WorkerSpec)
    statistics = Statistics(Random())
    try:
        load = partial(_load, spec, statistics)
        engine, ready = run_gently(load) if may_load_gently(spec) else load()
        control.say(ready)
    except WorkerError as exc:
        test = exc.test if isinstance(exc, SelfTestFailed) else None
        failure = Failure.of(exc)
        control.say(Failed(failure=failure, self_test=test))
        return 1
    return _obey(control, spec, engine)


def _load(spec: WorkerSpec, statistics: Statistics) -> tuple[Engine, Ready]:
    engine = Engine(load_slot(Path(spec.slot)), load_runtime(spec.runtime), spec.threads, statistics)
    return engine, _prove(engine)


def _prove(engine: Engine) -> Ready:
    begin = time.perf_counter()
    test = engine.prove()
    return Ready(
        runtime=engine.runtime.name,
        runtime_version=engine.runtime.version,
        load_ms=engine.load_ms,
        warmup_us=(time.perf_counter() - begin) * 1e6 / max(1, test.samples),
        self_test=test,
    )


def _obey(control: Control, spec: WorkerSpec, engine: Engine) -> int:
    listeners = [socket.socket(fileno=fd) for fd in spec.listen_fds]
    server = Server(Protocol(engine), listeners)
    stop = threading.Event()
    interval = Interval(spec, time.monotonic)
    threading.Thread(target=_report, args=(control, interval, engine, stop), daemon=True).start()
    while True:
        command: ToWorker = msgspec.json.decode(control.read(), type=ToWorker)
        if isinstance(command, Serve):
            server.start()
            _start_source(control, spec, engine, stop)
            control.say(Serving())
            interval.begin()
        elif isinstance(command, Drain):
            stop.set()
            server.drain(spec.linger_s)
            control.say(_take(engine, 0))
            control.say(Drained())
            return 0


def _start_source(control: Control, spec: WorkerSpec, engine: Engine, stop: threading.Event) -> None:
    if spec.source is None:
        return

    def tell(failure: Failure) -> None:
        control.say(SourceFailed(failure=failure))

    threading.Thread(
        target=replay, args=(engine, spec.source, stop, tell), name="source", daemon=True
    ).start()


def _report(control: Control, interval: Interval, engine: Engine, stop: threading.Event) -> None:
    """Tell the supervisor of each window; silence means that this process hangs."""
    while not stop.wait(window_s := interval.get_s()):
        control.say(_take(engine, int(window_s * 1000)))


def _take(engine: Engine, window_ms: int) -> Stats:
    window = engine.statistics.take()
    return Stats(
        window_ms=window_ms,
        requests=window.requests,
        errors=window.errors,
        latency_p50_us=percentile(window.latencies_us, 0.50),
        latency_p90_us=percentile(window.latencies_us, 0.90),
        latency_p99_us=percentile(window.latencies_us, 0.99),
        labelled=window.labelled,
        correct=window.correct,
        classes=dict(window.classes),
        rss_bytes=psutil.Process().memory_info().rss,
    )


if __name__ == "__main__":
    sys.exit(main())
