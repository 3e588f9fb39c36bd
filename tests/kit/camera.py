"""Cameras without a camera: a video file, and an MJPEG stream over HTTP as network cameras give it."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (64, 48)
"""Width and height."""
BOUNDARY = "frame"


def write_video(file: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
    """Write one plain frame for each colour (blue, green, red), as Motion JPEG."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE)
    assert writer.isOpened()
    for colour in colours:
        writer.write(_plain(colour))
    writer.release()
    return file


class NetworkCamera:
    """Sends plain frames of ``colour`` until `break_off`; a client may come again."""

    def __init__(self) -> None:
        self.colour = (0, 0, 255)
        self.clients = 0
        self._broken = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.clients += 1
                camera._broken.clear()
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.end_headers()
                with suppress(OSError):
                    while not camera._broken.wait(0.01):
                        self.wfile.write(_part(_plain(camera.colour)))

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/stream.mjpg"

    def break_off(self) -> None:
        self._broken.set()

    @contextmanager
    def running(self) -> Iterator["NetworkCamera"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.break_off()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), colour, np.uint8)


def _part(frame: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".jpg", frame)
    assert done
    content = encoded.tobytes()
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"
