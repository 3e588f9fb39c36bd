"""What a worker does from its first message to its last. See `protocol`."""

import logging
import socket
import threading
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psutil

from fleet_agent.blackbox import BlackBox, Doing
from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.activity import Activity, WatchedRuntime
from fleet_agent.worker.control import Control
from fleet_agent.worker.engine import Engine, SelfTestFailed
from fleet_agent.worker.gently import run_gently
from fleet_agent.worker.interval import Interval
from fleet_agent.worker.limits import apply_limits
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

STARTS_NO_THREADS: Final = frozenset({"litert", "tflite_runtime"})


def run(control_fd: int, vitals_fd: int) -> int:
    """Return the exit code of the process."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s worker: %(message)s")
    control = Control(socket.socket(fileno=control_fd))
    activity = Activity(BlackBox(vitals_fd))
    spec = msgspec.json.decode(control.read(), type=WorkerSpec)
    apply_limits(spec.limits)
    statistics = Statistics(Random())
    try:
        load = partial(_load, spec, statistics, activity)
        engine, ready = run_gently(load) if may_load_gently(spec) else load()
        activity.do(Doing.READY)
        control.say(ready)
    except WorkerError as exc:
        test = exc.test if isinstance(exc, SelfTestFailed) else None
        failure = Failure.of(exc)
        control.say(Failed(failure=failure, self_test=test))
        return 1
    return _obey(control, spec, engine, activity)


def may_load_gently(spec: WorkerSpec) -> bool:
    """Whether there is somebody to be considerate of, and no thread would stay slow: a pool of an
    interpreter would, for ever. TFLite's interpreters with one thread have none."""
    return spec.trial is not None and spec.threads == 1 and spec.runtime in STARTS_NO_THREADS


def _load(spec: WorkerSpec, statistics: Statistics, activity: Activity) -> tuple[Engine, Ready]:
    runtime = load_runtime(spec.runtime, Path(spec.compiled) if spec.compiled else None)
    slot = load_slot(Path(spec.slot), spec.manifest)
    engine = Engine(slot, WatchedRuntime(runtime, activity), spec.threads, statistics)
    activity.do(Doing.TESTING)
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


def _obey(control: Control, spec: WorkerSpec, engine: Engine, activity: Activity) -> int:
    listeners = [socket.socket(fileno=fd) for fd in spec.listen_fds]
    server = Server(Protocol(engine), listeners)
    stop = threading.Event()
    interval = Interval(spec, time.monotonic)
    activity.start_beating(stop)
    threading.Thread(target=_report, args=(control, interval, engine, stop), daemon=True).start()
    while True:
        command: ToWorker = msgspec.json.decode(control.read(), type=ToWorker)
        if isinstance(command, Serve):
            server.start()
            activity.do(Doing.SERVING)
            _start_source(control, spec, engine, stop)
            control.say(Serving())
            interval.begin()
        elif isinstance(command, Drain):
            stop.set()
            activity.do(Doing.LEAVING)
            server.drain(spec.linger_s if command.linger_s is None else command.linger_s)
            control.say(_take(engine, interval))
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
    """Tell the supervisor of each window."""
    while not stop.wait(interval.get_s()):
        control.say(_take(engine, interval))


def _take(engine: Engine, interval: Interval) -> Stats:
    """Return what was measured since the last time; the window is as long as it was."""
    window = engine.statistics.take()
    interval.count(window.requests)
    return Stats(
        window_ms=interval.end_window(),
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
