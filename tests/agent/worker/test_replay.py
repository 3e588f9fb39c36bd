"""Replaying a source: its troubles are told, and are not the model's."""

import threading
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from fleet_agent.errors import WorkerError
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.protocol import FromWorker, SourceFailed, SourceSpec
from fleet_agent.worker.replay import replay
from fleet_agent.worker.statistics import Statistics
from fleet_shared.messages.reported import Failure
from tests.kit.engine import hold, load_engine, package_of, write_slot
from tests.kit.packages import LABELS
from tests.kit.tiny_model import make_image_classifier


@pytest.fixture
def statistics() -> Statistics:
    return Statistics(Random(1))


@pytest.fixture
def engine(tmp_path: Path, statistics: Statistics) -> Engine:
    return load_engine(write_slot(tmp_path / "slot"), statistics)


def source(path: Path, *, loop: bool = False) -> SourceSpec:
    return SourceSpec(path=str(path), rate_hz=10_000, loop=loop)


def write_samples(file: Path, count: int = 5, features: int = 8) -> Path:
    np.savez(file, x=np.random.default_rng(1).normal(size=(count, features)), y=np.zeros(count, np.int64))
    return file


def test_every_sample_is_inferred_and_compared_with_its_label(
    tmp_path: Path, engine: Engine, statistics: Statistics
) -> None:
    told: list[Failure] = []
    replay(engine, source(write_samples(tmp_path / "a.npz")), threading.Event(), told.append)
    window = statistics.take()
    assert (window.requests, window.errors, window.labelled) == (5, 0, 5)
    assert told == []


def test_images_are_scaled_inferred_and_labelled_by_their_folder(
    tmp_path: Path, statistics: Statistics
) -> None:
    slot = write_slot(
        tmp_path / "slot", package_of(make_image_classifier(4, 6, 1), [(1, 4, 6, 1)], colour="grey")
    )
    engine = load_engine(slot, statistics)
    for name, value in (("a", 0), ("b", 128), ("c", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (12, 8), (value, value, value)).save(tmp_path / "images" / name / "1.png")
    told: list[Failure] = []
    replay(engine, source(tmp_path / "images"), threading.Event(), told.append)
    window = statistics.take()
    assert told == []
    assert (window.requests, window.errors, window.labelled) == (3, 0, 3)
    expected = [
        LABELS[int(engine.infer([np.full((1, 4, 6, 1), value / 255, np.float32)])[0].argmax())]
        for value in (0, 128, 255)
    ]
    assert window.classes == Counter(expected)
    assert window.correct == sum(a == b for a, b in zip(expected, "abc", strict=True))


@pytest.mark.parametrize("trouble", ["missing", "damaged", "shape", "empty"])
def test_a_source_s_trouble_is_told_once_and_is_no_error_of_the_model(
    tmp_path: Path, engine: Engine, statistics: Statistics, trouble: str
) -> None:
    file = tmp_path / "a.npz"
    if trouble == "damaged":
        file.write_bytes(b"no npz")
    elif trouble == "shape":
        write_samples(file, features=7)
    elif trouble == "empty":
        write_samples(file, count=0)
    told: list[Failure] = []
    stop = threading.Event()

    class Stopping(threading.Event):
        """Ends the third time that the source is tried again."""

        rounds = 0

        def wait(self, timeout: float | None = None) -> bool:
            if timeout == 0.123:
                self.rounds += 1
                if self.rounds == 3:
                    stop.set()
            return stop.is_set()

        def is_set(self) -> bool:
            return stop.is_set()

    replay(engine, source(file, loop=True), Stopping(), told.append, try_again_s=0.123)
    assert [failure.code for failure in told] == [f"worker.source.{trouble}"]
    window = statistics.take()
    assert (window.requests, window.errors) == (0, 0)


def test_a_source_that_comes_back_is_replayed(tmp_path: Path, engine: Engine, statistics: Statistics) -> None:
    stop = threading.Event()
    told: list[Failure] = []

    def tell(failure: Failure) -> None:
        told.append(failure)
        write_samples(tmp_path / "a.npz")

    held = hold(engine)
    thread = threading.Thread(
        target=replay,
        args=(engine, source(tmp_path / "a.npz", loop=True), stop, tell),
        kwargs={"try_again_s": 0.01},
    )
    thread.start()
    for _ in range(3000):
        if held.calls > 7:
            break
        stop.wait(0.01)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert held.calls > 7, "it must loop"
    assert [failure.code for failure in told] == ["worker.source.missing"]


def test_a_failed_inference_is_counted_once_and_the_next_sample_follows(
    tmp_path: Path, engine: Engine, statistics: Statistics
) -> None:
    hold(engine).failures = [WorkerError("the interpreter failed")] * 2
    told: list[Failure] = []
    replay(engine, source(write_samples(tmp_path / "a.npz")), threading.Event(), told.append)
    window = statistics.take()
    assert (window.requests, window.errors) == (5, 2)
    assert told == []


def test_a_defect_is_told_too(tmp_path: Path, engine: Engine) -> None:
    hold(engine).failures = [RuntimeError("surprise")]
    told: list[Failure] = []
    replay(engine, source(write_samples(tmp_path / "a.npz")), threading.Event(), told.append)
    assert [failure.code for failure in told] == ["worker.source.internal"]


def test_the_message_to_the_supervisor_reads_back() -> None:
    import msgspec

    said = SourceFailed(failure=Failure(code="worker.source.missing", message="m"))
    assert msgspec.json.decode(msgspec.json.encode(said), type=FromWorker) == said
