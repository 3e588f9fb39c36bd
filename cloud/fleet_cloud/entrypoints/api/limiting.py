"""How many requests one may send: a bucket of allowances for each, filled at a steady rate.

The decision is pure (`take`); `Limits` holds the buckets that there are. Whoever is forgotten, because too
many came after, starts with a full bucket: that costs memory nothing and an attacker many addresses.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fleet_cloud.addresses import network_of
from fleet_cloud.errors import TooMany

KEPT_MAX: Final = 10_000
BURST_S: Final = 10.0
"""So much of the rate may be used at once."""

WRONG_AT_ONCE_S: Final = 100.0


@dataclass(frozen=True, slots=True)
class Bucket:
    allowances: float
    at_s: float


def take(bucket: Bucket | None, now_s: float, rate_per_s: float, at_once: float) -> tuple[Bucket, float]:
    """Return the bucket with one allowance less, and 0; or as it is, and the seconds until there is one."""
    if bucket is None:
        return Bucket(at_once - 1, now_s), 0.0
    filled = min(at_once, bucket.allowances + max(0.0, now_s - bucket.at_s) * rate_per_s)
    if filled < 1:
        return Bucket(filled, now_s), (1 - filled) / rate_per_s
    return Bucket(filled - 1, now_s), 0.0


@dataclass
class Limits:
    """Requests a second: of a token, of an address without one, and of wrong tokens from an address. A rate
    of 0 is no limit. May be used from many threads."""

    per_token_s: float
    per_address_s: float
    wrong_per_s: float = 0.2
    monotonic_s: Callable[[], float] = time.monotonic
    _buckets: "OrderedDict[str, Bucket]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit_token(self, name: str) -> None:
        self._take(f"token {name}", self.per_token_s, self.per_token_s * BURST_S)

    def admit_address(self, address: str) -> None:
        """For requests without a token."""
        self._take(f"address {network_of(address)}", self.per_address_s, self.per_address_s * BURST_S)

    def count_wrong(self, address: str) -> None:
        """A wrong token came from there; whoever has a right one is not stopped by it."""
        self._take(f"wrong {network_of(address)}", self.wrong_per_s, self.wrong_per_s * WRONG_AT_ONCE_S)

    def _take(self, key: str, rate_per_s: float, at_once: float) -> None:
        if rate_per_s <= 0:
            return
        with self._lock:
            bucket, wait_s = take(
                self._buckets.pop(key, None), self.monotonic_s(), rate_per_s, max(1, at_once)
            )
            self._buckets[key] = bucket
            if len(self._buckets) > KEPT_MAX:
                self._buckets.popitem(last=False)
        if wait_s:
            error = TooMany(
                "too many requests",
                hint=f"try again in {wait_s:.1f} s; the limits are settings of the controller: rate_*",
            )
            error.wait_s = wait_s
            raise error
