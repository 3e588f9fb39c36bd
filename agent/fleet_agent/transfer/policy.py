"""What to do with an HTTP answer. Pure.

404, 410 and other 4xx are final. 408, 425, 429 and 5xx are retried, as Retry-After says. 401 and
403 get one fresh URL. 416 is a file that is whole already or not the one we have: start over once.
"""

from enum import Enum
from typing import Final


class Step(str, Enum):
    APPEND = "append"
    """206: the rest of the file follows."""
    RESTART = "restart"
    """200 to a range request, or 416: take the file from its start."""
    RETRY = "retry"
    FRESH_URL = "fresh-url"
    FAIL = "fail"


RETRIED: Final = frozenset({408, 425, 429})
RETRY_AFTER_MAX_S: Final = 300.0


def decide_step(status: int) -> Step:
    if status == 206:
        return Step.APPEND
    if status in (200, 416):
        return Step.RESTART
    if status in (401, 403):
        return Step.FRESH_URL
    if status in RETRIED or status >= 500:
        return Step.RETRY
    return Step.FAIL


def parse_retry_after_s(header: str | None) -> float | None:
    """Return the seconds that a server asks for, at most `RETRY_AFTER_MAX_S`; none without.

    The form with a date needs a clock, which a device may not have: it counts as none.
    """
    if header is None or not header.strip().isdigit():
        return None
    return min(float(header.strip()), RETRY_AFTER_MAX_S)
