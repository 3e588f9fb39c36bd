"""A camera as a source, through OpenCV (the extra ``[camera]``); the only importer of OpenCV.

``camera:0`` is the first one, ``camera:/dev/video2`` a device, ``camera:rtsp://...`` or ``http://...``
a stream: of these the newest frame is taken whenever one is asked for, and no backlog grows. A path of
a file is read frame after frame.
"""

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, Protocol, cast

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import Array

PREFIX: Final = "camera:"
SILENT_S: Final = 10.0
"""A camera that gives no frame for so long is opened anew."""


class Capture(Protocol):
    """What is needed of OpenCV's ``VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Array]: ...

    def release(self) -> None: ...


OpenCapture = Callable[[int | str], Capture]


def is_camera(source: str) -> bool:
    return source.startswith(PREFIX)


def is_shared(source: str) -> bool:
    """Whether several processes may read it at once; a camera of this machine belongs to one."""
    name = source.removeprefix(PREFIX)
    return not (is_camera(source) and (name.isdecimal() or name.startswith("/dev/")))


def read_frames(
    source: str, open_capture: OpenCapture | None = None, *, silent_s: float = SILENT_S
) -> Generator[Array, None, None]:
    """Yield frames (height, width, blue-green-red) for as long as there are any; a file ends.

    Raises `WorkerError`: ``worker.source.opencv`` without OpenCV, ``worker.source.camera`` when it
    cannot be opened, ``worker.source.lost`` when it gives no more frames.
    """
    name = source.removeprefix(PREFIX)
    capture = _open(name, open_capture or _load_opencv())
    if Path(name).is_file():
        yield from _read_file(capture)
    else:
        yield from _read_live(capture, name, silent_s)


def _open(name: str, open_capture: OpenCapture) -> Capture:
    try:
        capture = open_capture(int(name) if name.isdecimal() else name)
    except Exception as exc:  # OpenCV's own error cannot be named without importing it
        raise _not_opened(name, str(exc)) from exc
    if not capture.isOpened():
        capture.release()
        raise _not_opened(name, "")
    return capture


def _read_file(capture: Capture) -> Generator[Array, None, None]:
    try:
        while capture.grab():
            found, frame = capture.retrieve()
            if found:
                yield frame
    finally:
        capture.release()


def _read_live(capture: Capture, name: str, silent_s: float) -> Generator[Array, None, None]:
    newest = NewestFrame(capture)
    try:
        while True:
            frame = newest.take(silent_s)
            if frame is None:
                raise WorkerError(
                    f"camera {name} gives no frames any more",
                    hint="is it plugged in, and the network there? it is tried again",
                    code="worker.source.lost",
                )
            yield frame
    finally:
        newest.close(silent_s)


class NewestFrame:
    """Grabs all the time, so that no old frame waits in a buffer; decodes only what is asked for.

    Its thread alone uses the capture, and releases it: released by another one in the middle of a
    grab, OpenCV crashes.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._wanted = self._ended = False
        self._frame: Array | None = None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> Array | None:
        """Return a frame that was grabbed after this call; none when the camera has gone silent."""
        with self._changed:
            self._wanted, self._frame = True, None
            self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout_s)
            self._wanted = False
            return self._frame

    def close(self, timeout_s: float) -> None:
        """Stop grabbing. The thread of a camera that hangs is left behind: it must not hold us up."""
        with self._changed:
            self._ended = True
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._grab()
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _grab(self) -> None:
        while not self._ended and self._capture.grab():
            if self._wanted:
                found, frame = self._capture.retrieve()
                if found:
                    self._deliver(frame)

    def _deliver(self, frame: Array) -> None:
        with self._changed:
            if self._wanted:
                self._frame, self._wanted = frame, False
                self._changed.notify_all()


def _load_opencv() -> OpenCapture:
    try:
        import cv2
    except ImportError as exc:
        raise WorkerError(
            f"a camera needs OpenCV, which cannot be loaded: {exc}",
            hint="install it: pip install 'fleet-agent[camera]'",
            code="worker.source.opencv",
        ) from exc
    return cast("OpenCapture", cv2.VideoCapture)


def _not_opened(name: str, why: str) -> WorkerError:
    return WorkerError(
        f"camera {name} cannot be opened{f': {why}' if why else ''}",
        hint="is it plugged in, free, and may this user read it (group video)? it is tried again",
        code="worker.source.camera",
    )
