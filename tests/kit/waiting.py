"""Wait for something that will be true, with a deadline that only a defect reaches."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

PAUSE_MIN_S: Final = 0.02
PAUSE_MAX_S: Final = 0.1
"""What looks often takes the processor from what it waits for; what passes by must not be missed."""


def wait_for(what: str, look: Callable[[], T | bool | None], timeout_s: float = 60.0) -> T:
    begin = time.monotonic()
    while (waited_s := time.monotonic() - begin) < timeout_s:
        found = look()
        if found is not None and found is not False:
            return found  # type: ignore[return-value]  # a bool was excluded unless T is one
        time.sleep(min(PAUSE_MAX_S, max(PAUSE_MIN_S, waited_s / 10)))
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
