"""What to do with an HTTP answer, and how often. Pure.

404, 410 and other 4xx are final. 408, 425, 429 and 5xx are retried, as Retry-After says. 401 and
403 get one fresh URL. 416 is a file that is whole already or not the one we have: start over once.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Step(str, Enum):
    APPEND = "append"
    """The rest of the file follows."""
    WHOLE = "whole"
    """The file follows from its start, whatever was asked for."""
    RESTART = "restart"
    """What is there does not belong to what the server has: throw it away, ask anew."""
    RETRY = "retry"
    FRESH_URL = "fresh-url"
    FAIL = "fail"


RETRIED: Final = frozenset({408, 425, 429})
RETRY_AFTER_MAX_S: Final = 300.0
RETRIES_MAX: Final = 8
"""In a row without a byte of progress."""
_CONTENT_RANGE: Final = re.compile(r"bytes +([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


def decide_step(status: int, content_range: str | None = None, have: int = 0) -> Step:
    """``have``: where the asked range starts, in bytes.

    Some servers (rclone's S3) answer a range with 200 and Content-Range: the header says what
    follows. A 206 without one is believed to start where it was asked to.
    """
    if status == 206 or (status == 200 and content_range is not None):
        return Step.APPEND if _starts_at(content_range, have) else Step.RESTART
    steps = {200: Step.WHOLE, 416: Step.RESTART, 401: Step.FRESH_URL, 403: Step.FRESH_URL}
    if status in RETRIED or status >= 500:
        return Step.RETRY
    return steps.get(status, Step.FAIL)


def _starts_at(content_range: str | None, have: int) -> bool:
    if content_range is None:
        return True
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    return match is not None and int(match[1]) == have


def parse_retry_after_s(
    header: str | None, date: str | None = None, wall_s: float | None = None
) -> float | None:
    """Return the seconds that a server asks for, 0 to `RETRY_AFTER_MAX_S`; none without.

    The form with a time of day is read by the server's own clock (``date``: the header of the same
    answer), else by ours (``wall_s``, seconds since 1970), which a device may not have: then it counts
    as none.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return RETRY_AFTER_MAX_S if len(text) > 9 else min(float(text), RETRY_AFTER_MAX_S)
    until_s, now_s = _parse_date_s(text), _parse_date_s(date or "")
    now_s = wall_s if now_s is None else now_s
    if until_s is None or now_s is None:
        return None
    return min(max(0.0, until_s - now_s), RETRY_AFTER_MAX_S)


def _parse_date_s(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # an idle agent does not carry it

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


@dataclass
class Budget:
    """What one download may still do. Retries and fresh URLs come back with each progress, so that
    a link that is cut again and again gets there; starting over is granted once in all."""

    retries: int = RETRIES_MAX
    fresh_urls: int = 1
    restarts: int = 1

    def renew(self) -> None:
        self.retries, self.fresh_urls = RETRIES_MAX, 1

    def spend(self, step: Step) -> bool:
        """Tell whether ``step`` is granted, and count it."""
        if step is Step.RETRY and self.retries:
            self.retries -= 1
        elif step is Step.FRESH_URL and self.fresh_urls:
            self.fresh_urls -= 1
        elif step is Step.RESTART and self.restarts:
            self.restarts -= 1
        else:
            return False
        return True
