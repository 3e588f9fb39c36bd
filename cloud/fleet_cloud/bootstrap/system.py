"""The clock and the chance of a real controller."""

import time
from uuid import uuid4


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class RandomIds:
    def new_id(self) -> str:
        return uuid4().hex
