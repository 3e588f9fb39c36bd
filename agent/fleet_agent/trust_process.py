"""The trust child as the supervisor sees it: a question, an answer, a deadline."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from fleet_agent.trust.protocol import Refused, TrustAnswer, TrustRequest

log = logging.getLogger(__name__)

DEADLINE_S: Final = 120.0


class TrustProcess:
    """Each `ask` starts one child. `abort` may be called from another thread."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
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
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "fleet_agent.trust"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as exc:
            return _no_answer(str(exc))
        with self._lock:
            self._child = child
        try:
            output, _ = child.communicate(msgspec.json.encode(request), timeout=self._deadline_s)
            answer: TrustAnswer = msgspec.json.decode(output, type=TrustAnswer)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return _no_answer(f"no answer within {self._deadline_s:g} s")
        except msgspec.MsgspecError:
            return _no_answer(f"it ended with exit code {child.returncode}")
        except OSError as exc:
            child.kill()
            child.wait()
            return _no_answer(str(exc))
        finally:
            with self._lock:
                self._child = None
        return answer

    def abort(self) -> None:
        """End the child that is running, if one is."""
        with self._lock:
            if self._child is not None:
                self._child.kill()


def _no_answer(why: str) -> Refused:
    return Refused(
        code="trust.child",
        message=f"the verification process failed: {why}",
        hint="its log is in the agent's log; it is tried again",
        retry=True,
    )
