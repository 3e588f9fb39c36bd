"""Wait for something that will be true, with a deadline."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from fleet_cloud.entrypoints.demo.processes import DemoError

TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.25

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = TIMEOUT_S) -> T:
    """Return what ``look`` finds; raise `DemoError` naming ``what`` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(POLL_S)
    raise DemoError(f"waited {timeout_s:g} s in vain for {what}", hint="the logs are in the demo's folder")
