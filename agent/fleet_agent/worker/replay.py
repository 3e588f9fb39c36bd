"""Replay a source through the model at a steady rate."""

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_agent.worker.camera import is_camera, is_shared
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.protocol import SourceSpec
from fleet_agent.worker.sources import LabelledSample, read_camera, read_samples
from fleet_agent.worker.tensors import preprocess
from fleet_shared.messages.reported import Failure

log = logging.getLogger(__name__)

TRY_AGAIN_S: Final = 30.0
"""A source may be on a medium that comes and goes."""
CAMERA_AGAIN_S: Final = 3.0
"""A camera is soon back: a cable, a restart, a stream that breaks off."""
HELD_S: Final = 10.0
"""The worker that leaves may have the camera still when the next one begins: that is no trouble."""


def replay(
    engine: Engine,
    source: SourceSpec,
    stop: threading.Event,
    tell: Callable[[Failure], None],
    *,
    try_again_s: float | None = None,
) -> None:
    """Infer sample after sample until the source ends (or for ever, if it loops) or ``stop``.

    What is wrong with the source is told, once for each trouble, and never counted against the
    model: a good one must not be rolled back for a missing file. A source that loops is tried again.
    """
    if try_again_s is None:
        try_again_s = CAMERA_AGAIN_S if is_camera(source.path) else TRY_AGAIN_S
    told: Failure | None = None
    held_until_s = 0.0 if is_shared(source.path) else time.monotonic() + HELD_S
    while not stop.is_set():
        trouble = _try_once(engine, source, stop)
        if trouble is not None and time.monotonic() < held_until_s:
            log.info("source: %s (%s); perhaps another worker has it still", trouble.message, trouble.code)
        elif trouble is not None and trouble != told:
            log.error("source: %s (%s)", trouble.message, trouble.code)
            tell(trouble)
            told = trouble
        elif trouble is None:
            told = None
        if not source.loop or (trouble is not None and stop.wait(try_again_s)):
            return


def _try_once(engine: Engine, source: SourceSpec, stop: threading.Event) -> Failure | None:
    try:
        count = _replay_once(engine, source, stop)
    except WorkerError as exc:
        return Failure.of(exc)
    except Exception as exc:  # the guard of the thread: it must not end without a word
        log.exception("the source failed")
        return Failure(code="worker.source.internal", message=f"{type(exc).__name__}: {exc}")
    if count or stop.is_set():
        return None
    return Failure(
        code="worker.source.empty",
        message=f"the source {source.path} has no samples",
        hint="give a folder or archive of .png, .jpg or .bmp images, an .npz with x, or a camera",
    )


def _replay_once(engine: Engine, source: SourceSpec, stop: threading.Event) -> int:
    """Return how many samples were replayed. Raises `WorkerError` (``worker.source.*``).

    The schedule is absolute, so that the rate does not drift; after a stall it does not catch up
    in a burst.
    """
    preprocessing = engine.slot.manifest.contract.preprocessing
    info = engine.model.inputs[0]
    interval_s = 1 / source.rate_hz
    due = time.monotonic()
    count = failed = 0
    with closing(_open_source(engine, source)) as samples:
        # First wait, then take: the frame of a camera is to be as new as can be.
        while not stop.wait(max(0.0, due - time.monotonic())):
            sample = next(samples, None)
            if sample is None or stop.is_set():
                break
            array = preprocess(sample.array, preprocessing, info)
            try:
                engine.infer([array], label=sample.label)
            except WorkerError as exc:  # counted there; the next sample may do better
                failed += 1
                if failed == 1:
                    log.error("a sample failed: %s (%s)", exc.message, exc.code)
            due = max(due + interval_s, time.monotonic() - interval_s)
            count += 1
    return count


def _open_source(engine: Engine, source: SourceSpec) -> Generator[LabelledSample, None, None]:
    preprocessing, info = engine.slot.manifest.contract.preprocessing, engine.model.inputs[0]
    if is_camera(source.path):
        yield from read_camera(source.path, preprocessing, info)
    else:
        yield from read_samples(Path(source.path), engine.slot.labels, preprocessing, info)
