"""What to do with an HTTP answer, decided without any I/O.

404, 410 and other 4xx are final; 408, 425, 429 and 5xx are tried again when Retry-After says;
401 and 403 get one fresh URL; 416 starts over once. A blob URL does not redirect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

RETRIED_STATUSES: Final = frozenset({408, 425, 429})
RETRY_AFTER_MAX_S: Final = 600.0


class Action(str, Enum):
    APPEND = "append"
    START_OVER = "start-over"  # the body of this answer is the whole blob
    ASK_AGAIN_WHOLE = "ask-again-whole"  # drop what is there and ask without a range
    FRESH_URL = "fresh-url"
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True)
class Answer:
    """The head of an HTTP answer. ``first_byte`` and ``total_bytes`` come from Content-Range."""

    status: int
    length_bytes: int | None = None
    first_byte: int | None = None
    total_bytes: int | None = None
    etag: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Asked:
    """What was asked for, and which second chances are spent already."""

    offset: int
    size_bytes: int
    fresh_url_spent: bool = False
    restart_spent: bool = False


@dataclass(frozen=True)
class Decision:
    """``code`` names the failure of `Action.FAIL`; ``wait_s`` is what a retry must wait at least."""

    action: Action
    code: str = ""
    wait_s: float = 0.0


def decide_action(answer: Answer, asked: Asked) -> Decision:
    """Return what to do with ``answer``."""
    status = answer.status
    if status in (200, 206):
        return _decide_body(answer, asked)
    if status in RETRIED_STATUSES or 500 <= status <= 599:
        return Decision(Action.RETRY, wait_s=min(answer.retry_after_s or 0.0, RETRY_AFTER_MAX_S))
    if status in (401, 403):
        spent = asked.fresh_url_spent
        return Decision(Action.FAIL, "transfer.forbidden") if spent else Decision(Action.FRESH_URL)
    if status == 416:
        return _decide_restart(asked, "transfer.range")
    return Decision(
        Action.FAIL, {404: "transfer.not_found", 410: "transfer.gone"}.get(status, "transfer.status")
    )


def _decide_body(answer: Answer, asked: Asked) -> Decision:
    if answer.status == 206:
        if (answer.first_byte, answer.total_bytes or asked.size_bytes) != (asked.offset, asked.size_bytes):
            return _decide_restart(asked, "transfer.range")
        return Decision(Action.APPEND)
    if answer.length_bytes is not None and answer.length_bytes > asked.size_bytes:
        return Decision(Action.FAIL, "transfer.too_long")
    if answer.length_bytes is not None and answer.length_bytes < asked.size_bytes:
        return Decision(Action.FAIL, "transfer.too_short")
    return Decision(Action.START_OVER)


def _decide_restart(asked: Asked, code: str) -> Decision:
    return Decision(Action.FAIL, code) if asked.restart_spent else Decision(Action.ASK_AGAIN_WHOLE)


def parse_content_range(text: str | None) -> tuple[int | None, int | None]:
    """Return first byte and total of ``bytes 5-9/10``; none for what is absent or not understood."""
    unit, _, rest = (text or "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes":
        return None, None
    return (int(first) if first.isdigit() else None), (int(total) if total.isdigit() else None)


def parse_retry_after(text: str | None, date: str | None) -> float | None:
    """Return the seconds to wait, none if there is no such header or it cannot be read.

    A date is taken relative to the answer's own Date: the device may not know the time.
    """
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class RetryBudget:
    """How long to keep trying: ``attempts`` in a row that bring no byte. Any byte starts afresh."""

    attempts: int = 8
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0

    def decide_delay_s(self, failures: int, random: Callable[[], float]) -> float | None:
        """Return the wait after ``failures`` in a row (full jitter in the upper half), none when spent.

        ``random`` gives numbers in [0, 1).
        """
        if failures >= self.attempts:
            return None
        ceiling = min(self.max_delay_s, self.first_delay_s * 2.0 ** (failures - 1))
        return ceiling * (0.5 + random() / 2)
