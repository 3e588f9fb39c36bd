"""Wait for something that will be true, with a deadline that only a defect reaches."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | bool | None], timeout_s: float = 60.0) -> T:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None and found is not False:
            return found  # type: ignore[return-value]  # a bool was excluded unless T is one
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
