"""The trust child as the supervisor sees it: a question, an answer, a deadline."""

import subprocess
import sys
import threading
from typing import Final

import msgspec

from fleet_agent.trust.protocol import Refused, TrustAnswer, TrustRequest

DEADLINE_S: Final = 120.0


class TrustProcess:
    """Each `ask` starts one child. `abort` may be called from another thread."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: TrustRequest) -> TrustAnswer:
        """Return the child's answer; `Refused` (``trust.child``) when it gives none."""
        child = subprocess.Popen(
            [sys.executable, "-m", "fleet_agent.trust"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
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
