"""Replay a source through the model at a steady rate."""

import logging
import threading
import time
from pathlib import Path

from fleet_agent.errors import WorkerError
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.protocol import SourceSpec
from fleet_agent.worker.sources import read_samples
from fleet_agent.worker.tensors import preprocess

log = logging.getLogger(__name__)


def replay(engine: Engine, source: SourceSpec, stop: threading.Event) -> None:
    """Infer sample after sample until the source ends (or for ever, if it loops) or ``stop``.

    The schedule is absolute, so that the rate does not drift; after a stall it does not catch up
    in a burst. A source that is missing or damaged is logged and counted as an error: a model that
    serves requests must not go down with it.
    """
    try:
        while not stop.is_set():
            count = _replay_once(engine, source, stop)
            if not source.loop or count == 0:
                return
    except WorkerError as exc:
        log.error("source stopped: %s (%s)", exc.message, exc.code)
        engine.statistics.add_error()


def _replay_once(engine: Engine, source: SourceSpec, stop: threading.Event) -> int:
    preprocessing = engine.slot.manifest.contract.preprocessing
    info = engine.model.inputs[0]
    interval_s = 1 / source.rate_hz
    due = time.monotonic()
    count = 0
    for sample in read_samples(Path(source.path), engine.slot.labels, preprocessing, info):
        if stop.wait(max(0.0, due - time.monotonic())):
            break
        engine.infer([preprocess(sample.array, preprocessing, info)], label=sample.label)
        due = max(due + interval_s, time.monotonic() - interval_s)
        count += 1
    return count
