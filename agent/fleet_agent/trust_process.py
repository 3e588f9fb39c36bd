"""The trust child as the supervisor sees it: a question, an answer, a deadline, and what it asks back."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final, cast

import msgspec

from fleet_agent.errors import LaterError
from fleet_agent.trust.framing import FrameError, read_frame, write_frame
from fleet_agent.trust.protocol import (
    FileAnswer,
    FileFailed,
    FromChild,
    GivenFile,
    NeedFile,
    Refused,
    TrustAnswer,
    TrustRequest,
)
from fleet_shared.errors import FleetError

log = logging.getLogger(__name__)

DEADLINE_S: Final = 240.0
"""How long the child may be silent."""
FILES_MAX: Final = 400
"""So many files it may ask for: more than a walk over all roots that python-tuf allows."""

FetchFile = Callable[[str, int], bytes]
"""Brings a file of the release repository, of at most so many bytes, on another way than HTTP. Raises
`TransferError`; `LaterError` when it may come later."""


class TrustProcess:
    """Each `ask` starts one child, one at a time: they share their files. `abort` may be called from another
    thread. ``fetch_file``: none where there is no way but HTTP."""

    def __init__(self, deadline_s: float = DEADLINE_S, fetch_file: FetchFile | None = None) -> None:
        self._deadline_s, self._fetch_file = deadline_s, fetch_file
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, request: TrustRequest, answered: Callable[[TrustAnswer], None]) -> None:
        """Ask in a thread of its own. ``answered`` is called in any case, from that thread, or from
        this one when there can be none."""

        def run() -> None:
            answer: TrustAnswer
            try:
                answer = self.ask(request)
            except Exception as exc:  # the guard of the thread: whoever asked waits for an answer
                log.exception("the verification failed")
                answer = _no_answer(f"{type(exc).__name__}: {exc}")
            answered(answer)

        try:
            threading.Thread(target=run, name="trust", daemon=True).start()
        except RuntimeError as exc:
            answered(_no_answer(str(exc)))

    def ask(self, request: TrustRequest) -> TrustAnswer:
        """Return the child's answer; `Refused` (``trust.child``) when it gives none, or when it
        cannot be started (no memory, no process, no file)."""
        with self._turn:
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "fleet_agent.trust"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            except OSError as exc:
                return _no_answer(str(exc))
            with self._lock:
                self._child = child
            try:
                return self._talk(child, request)
            finally:
                with self._lock:
                    self._child = None
                _end(child)

    def abort(self) -> None:
        """End the child that is running, if one is."""
        with self._lock:
            if self._child is not None:
                self._child.kill()

    def _talk(self, child: "subprocess.Popen[bytes]", request: TrustRequest) -> TrustAnswer:
        said: TrustRequest | FileAnswer = request
        for _ in range(FILES_MAX):
            heard = self._exchange(child, said)
            if not isinstance(heard, NeedFile):
                return heard
            said = self._bring(heard)
        return _no_answer("it asks for files without an end")

    def _exchange(self, child: "subprocess.Popen[bytes]", said: TrustRequest | FileAnswer) -> FromChild:
        """Say one thing and hear one, within the deadline."""
        silent = threading.Event()
        try:
            with _killed_after(child, self._deadline_s, silent):
                write_frame(cast("IO[bytes]", child.stdin), msgspec.json.encode(said))
                content = read_frame(cast("IO[bytes]", child.stdout))
            if content is not None:
                heard: FromChild = msgspec.json.decode(content, type=FromChild)
                return heard
        except (OSError, FrameError, msgspec.MsgspecError) as exc:
            log.info("the trust child: %s", exc)
        if silent.is_set():
            return _no_answer(f"no answer within {self._deadline_s:g} s")
        with suppress(subprocess.TimeoutExpired):
            child.wait(1.0)
        return _no_answer(f"it ended with exit code {child.poll()}")

    def _bring(self, needed: NeedFile) -> FileAnswer:
        if self._fetch_file is None:
            return FileFailed(message="there is no other way to the release repository", retry=True)
        try:
            content = self._fetch_file(needed.path, needed.length_max)
        except LaterError as exc:
            return FileFailed(message=exc.message, retry=True)
        except FleetError as exc:
            return FileFailed(message=exc.message, retry=exc.code == "transfer.aborted")
        return GivenFile(content=content[: needed.length_max + 1])


def _end(child: "subprocess.Popen[bytes]") -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    try:
        child.wait(5.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _killed_after(
    child: "subprocess.Popen[bytes]", seconds: float, silent: threading.Event
) -> Iterator[None]:
    def kill() -> None:
        silent.set()
        child.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _no_answer(why: str) -> Refused:
    return Refused(
        code="trust.child",
        message=f"the verification process failed: {why}",
        hint="its log is in the agent's log; it is tried again",
        retry=True,
    )
