"""Cameras: real video and a real stream through OpenCV; and one whose frames a test counts."""

import queue
import sys
import threading
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array, TensorInfo
from fleet_agent.worker import camera as camera_module
from fleet_agent.worker import replay as replay_module
from fleet_agent.worker.camera import NewestFrame, is_camera, read_frames
from fleet_agent.worker.protocol import SourceSpec, Stats
from fleet_agent.worker.replay import replay
from fleet_agent.worker.sources import read_camera
from fleet_agent.worker.statistics import Statistics
from fleet_shared.manifest import Preprocessing
from fleet_shared.messages.reported import Failure
from tests.kit.bare_worker import BareWorker
from tests.kit.camera import NetworkCamera, write_video
from tests.kit.engine import hold, load_engine, package_of, write_slot
from tests.kit.tiny_model import make_image_classifier
from tests.kit.waiting import wait_for

WAIT_S = 30.0
RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)
"""As OpenCV has them: blue first."""
INFO = TensorInfo("x", np.dtype(np.float32), (1, 4, 6, 3), None)


@pytest.mark.parametrize(("colour", "red"), [("rgb", 0), ("bgr", 2)])
def test_a_video_is_read_in_the_contract_s_colours_and_ends(tmp_path: Path, colour: str, red: int) -> None:
    video = write_video(tmp_path / "a.avi", [RED, GREEN, BLUE])
    samples = list(read_camera(f"camera:{video}", Preprocessing(colour=colour), INFO))
    assert [sample.array.shape for sample in samples] == [(4, 6, 3)] * 3
    strongest = [int(sample.array.mean(axis=(0, 1)).argmax()) for sample in samples]
    assert strongest == [red, 1, 2 - red]
    assert {sample.label for sample in samples} == {None}


def test_a_stream_is_read_lost_and_there_again() -> None:
    camera = NetworkCamera()
    with camera.running():
        frames = read_frames(f"camera:{camera.url}")
        first = list(islice(frames, 3))
        assert all(frame.mean(axis=(0, 1)).argmax() == 2 for frame in first)
        camera.colour = BLUE
        wait_for("the new colour", lambda: bool(next(frames).mean(axis=(0, 1)).argmax() == 0))
        camera.break_off()
        with pytest.raises(WorkerError) as caught:
            list(islice(frames, 1000))
        assert caught.value.code == "worker.source.lost"
        again = read_frames(f"camera:{camera.url}")
        assert next(again).shape == (48, 64, 3)
        again.close()
        assert camera.clients == 2


class CountedCapture:
    """Gives the frames that a test puts in; counts what was decoded."""

    def __init__(self) -> None:
        self.frames: queue.Queue[int | None] = queue.Queue()
        self.grabbed = self.decoded = 0
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        found = self.frames.get()
        if found is None:
            return False
        self.grabbed = found
        return True

    def retrieve(self) -> tuple[bool, Array]:
        self.decoded += 1
        return True, np.full((2, 2, 3), self.grabbed, np.uint8)

    def release(self) -> None:
        self.released = True


class EndlessCapture(CountedCapture):
    def grab(self) -> bool:
        threading.Event().wait(0.001)
        return True


def test_only_the_newest_frame_is_decoded_and_no_backlog_grows() -> None:
    capture = CountedCapture()
    newest = NewestFrame(capture)
    for number in range(1, 101):
        capture.frames.put(number)
    wait_for("all frames to be grabbed", lambda: capture.grabbed == 100)
    assert capture.decoded == 0
    taken: list[Array | None] = []
    asking = threading.Thread(target=lambda: taken.append(newest.take(WAIT_S)))
    asking.start()
    wait_for("the question", lambda: newest._wanted)
    capture.frames.put(101)
    asking.join(WAIT_S)
    assert taken[0] is not None
    assert (taken[0] == 101).all()
    assert capture.decoded == 1
    capture.frames.put(None)
    newest.close(WAIT_S)


def test_a_silent_camera_is_given_up_and_released() -> None:
    capture = CountedCapture()
    frames = read_frames("camera:0", lambda _: capture, silent_s=0.05)
    with pytest.raises(WorkerError) as caught:
        next(frames)
    assert caught.value.code == "worker.source.lost"
    assert not capture.released, "its thread still waits for a frame"
    capture.frames.put(None)
    wait_for("the release", lambda: capture.released)


def test_no_opencv_and_no_camera_are_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("99", str(tmp_path / "none.avi"), "rtsp://127.0.0.1:1/x"):
        with pytest.raises(WorkerError) as caught:
            next(read_frames(f"camera:{name}"))
        assert caught.value.code == "worker.source.camera"
        assert name in caught.value.message
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(WorkerError) as caught:
        next(read_frames("camera:0"))
    assert caught.value.code == "worker.source.opencv"
    assert "fleet-agent[camera]" in caught.value.hint
    assert is_camera("camera:0")
    assert not is_camera("/data/camera:0")


def test_frames_are_inferred_through_a_break_of_the_camera(tmp_path: Path) -> None:
    model = package_of(make_image_classifier(4, 6, 3), [(1, 4, 6, 3)], colour="rgb")
    engine = load_engine(write_slot(tmp_path / "slot", model), Statistics(Random(1)))
    held = hold(engine)
    told: list[Failure] = []
    stop = threading.Event()
    camera = NetworkCamera()
    with camera.running():
        source = SourceSpec(path=f"camera:{camera.url}", rate_hz=200)
        thread = threading.Thread(
            target=replay, args=(engine, source, stop, told.append), kwargs={"try_again_s": 0.05}
        )
        thread.start()
        wait_for("inference", lambda: held.calls > 3)
        camera.break_off()
        wait_for("the loss", lambda: told)
        before = held.calls
        wait_for("inference after the loss", lambda: held.calls > before + 3)
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    assert [failure.code for failure in told] == ["worker.source.lost"]


def test_a_worker_process_infers_what_a_camera_sees(tmp_path: Path) -> None:
    model = package_of(make_image_classifier(4, 6, 3), [(1, 4, 6, 3)], colour="rgb")
    source = SourceSpec(path=f"camera:{write_video(tmp_path / 'a.avi', [RED] * 5)}", rate_hz=100)
    worker = BareWorker(write_slot(tmp_path / "slot", model), (), source)
    try:
        worker.serve()
        stats = next(said for said in iter(lambda: worker.read(Stats), None) if said.requests)
        assert stats.errors == 0
        assert sum(stats.classes.values()) == stats.requests
        assert len(stats.classes) == 1, "it sees one plain colour"
    finally:
        worker.end()


def test_a_camera_that_the_worker_before_still_has_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = package_of(make_image_classifier(4, 6, 3), [(1, 4, 6, 3)], colour="rgb")
    engine = load_engine(write_slot(tmp_path / "slot", model), Statistics(Random(1)))
    held = hold(engine)
    tries: list[int | str] = []

    def open_capture(name: int | str) -> CountedCapture:
        tries.append(name)
        if len(tries) < 3:
            raise OSError("Device or resource busy")
        return EndlessCapture()

    monkeypatch.setattr(camera_module, "_load_opencv", lambda: open_capture)
    for held_s, wanted in ((30.0, []), (0.0, ["worker.source.camera"])):
        monkeypatch.setattr(replay_module, "HELD_S", held_s)
        tries.clear()
        told: list[Failure] = []
        stop, before = threading.Event(), held.calls
        source = SourceSpec(path="camera:0", rate_hz=1000)
        thread = threading.Thread(
            target=replay, args=(engine, source, stop, told.append), kwargs={"try_again_s": 0.01}
        )
        thread.start()
        wait_for("inference", lambda: held.calls > before)  # noqa: B023
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert [failure.code for failure in told] == wanted
