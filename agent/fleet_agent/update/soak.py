"""The trial of a model after the switch: what it takes, and what speaks against the model. Pure.

The trial takes ``soak_s`` and ``soak_inferences``, both, counted from when the worker serves; a restart of
the worker within the allowance goes on counting, a restart of the agent counts anew (the deadline of the
update bounds both). Time is an argument, on the boot clock.

*Errors* are judged over the whole trial at its end, and earlier only when it is certain: when the lower end
of the 95 % interval of the error rate (Wilson 1927) of at least `EARLY_FROM` inferences lies above what is
allowed. Of fewer than `RATE_FROM` inferences a single failure is no rate: then only a model that fails all
of them is at fault, or any failure where none is allowed.

*Latency*: the median of the trial against that of the previous version of the same model on this device,
before the new worker started, each over at least `MEDIAN_FROM` inferences. Without that there is nothing to
compare; the evidence says so, and the model is not judged by it.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from fleet_agent.update.latency import Latency, LatencyWindows
from fleet_agent.update.record import Evidence
from fleet_agent.worker.protocol import Stats
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure

SILENT_AFTER_S: Final = 30.0
"""After the trial time; a worker on trial reports at least twice within it."""
RATE_FROM: Final = 10
EARLY_FROM: Final = 5
MEDIAN_FROM: Final = 10
_Z: Final = 1.959964


@dataclass
class Soak:
    """``before``: the latency of the previous version, none if there is nothing to compare with."""

    policy: Policy
    before: Latency | None = None
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    rss_max_bytes: int = 0
    _since_s: float | None = None
    _serves: bool = False
    _heard: bool = False
    _latency: LatencyWindows = field(default_factory=LatencyWindows)

    def begin(self, now_s: float) -> None:
        """The worker serves, for the first time or again after a restart."""
        self._serves = True
        if self._since_s is None:
            self._since_s = now_s

    def lose(self, failure: Failure) -> Failure | None:
        """The worker ended: return why that ends the trial, none if it may be restarted."""
        self.restarts += 1
        self._serves = self._heard = False
        allowed = self.policy.worker_restarts_max
        if failure.code == "worker.memory" or allowed == 0:
            return failure  # the next one would need as much
        if self.restarts <= allowed:
            return None
        message = f"the worker ended {self.restarts} times in its trial, {allowed} restarts are allowed: "
        return Failure(code=failure.code, message=message + failure.message, hint=failure.hint)

    def judge(self, stats: Stats) -> Failure | None:
        """Take up what the worker measured; return why it speaks against the model for certain, or none."""
        self.rss_max_bytes = max(self.rss_max_bytes, stats.rss_bytes)
        if self._since_s is None:
            return None  # measured before it served
        self._heard = True
        self.requests += stats.requests
        self.errors += stats.errors
        self._latency.add(stats)
        certain = self.requests >= EARLY_FROM and (
            lower_bound(self.errors, self.requests) > self.policy.error_rate_max
        )
        return self._explain_errors() if certain else None

    def is_silent(self, now_s: float) -> bool:
        """Whether the worker serves and has measured nothing long after it should have."""
        until_s = self._until_s
        return not self._heard and self._serves and until_s is not None and now_s >= until_s + SILENT_AFTER_S

    def is_over(self, now_s: float) -> bool:
        """Whether it was long enough, in time and inferences, and the worker measured since it serves."""
        until_s = self._until_s
        if not (self._heard and self._serves) or until_s is None or now_s < until_s:
            return False
        return self.requests >= self.policy.soak_inferences

    def conclude(self) -> Failure | None:
        """The trial is over: return what speaks against the model, or none."""
        if is_too_many(self.errors, self.requests, self.policy.error_rate_max):
            return self._explain_errors()
        ratio, allowed = self._ratio, self.policy.latency_ratio_max
        if ratio is None or allowed is None or ratio <= allowed:
            return None
        return Failure(
            code="soak.latency",
            message=f"the median latency is {ratio:.2f} times that of the previous version "
            f"({self._describe_latency()}), and may be {allowed:g} times",
            hint="fleet-agent benchmark tells which variant and runtime suit this device",
        )

    def explain_late(self) -> Failure | None:
        """Return why the deadline found the trial unfinished, if it waited for inferences."""
        if self.requests >= self.policy.soak_inferences:
            return None
        return Failure(
            code="soak.inferences",
            message=f"{self.requests} of {self.policy.soak_inferences} inferences of the trial came within "
            f"the deadline of {self.policy.deadline_s:g} s",
            hint="is there a source, or a client that asks? push again with fewer soak_inferences, or a "
            "longer --deadline",
        )

    @property
    def evidence(self) -> Evidence:
        """What was observed, and what was allowed; a bound that is none was not judged."""
        now, before = self._latency.median, self.before
        return {
            "soak_requests": self.requests,
            "soak_requests_min": self.policy.soak_inferences,
            "soak_errors": self.errors,
            "soak_error_rate_max": self.policy.error_rate_max,
            "soak_latency_p50_us": None if now is None else round(now.p50_us, 1),
            "soak_latency_before_p50_us": None if before is None else round(before.p50_us, 1),
            "soak_latency_before_requests": 0 if before is None else before.requests,
            "soak_latency_ratio": None if self._ratio is None else round(self._ratio, 3),
            "soak_latency_ratio_max": self.policy.latency_ratio_max,
            "soak_latency_judged": self._judges_latency,
            "soak_restarts": self.restarts,
            "soak_restarts_max": self.policy.worker_restarts_max,
            "soak_rss_max_bytes": self.rss_max_bytes,
            "soak_memory_bytes_max": self.policy.memory_bytes_max,
        }

    @property
    def _until_s(self) -> float | None:
        return None if self._since_s is None else self._since_s + self.policy.soak_s

    @property
    def _judges_latency(self) -> str:
        """``yes``, or why not."""
        now, before = self._latency.median, self.before
        if self.policy.latency_ratio_max is None:
            return "no bound is given"
        if before is None or before.requests < MEDIAN_FROM:
            return "the previous version answered too few requests to compare with"
        if now is None or now.requests < MEDIAN_FROM:
            return "the trial had too few requests"
        return "yes"

    @property
    def _ratio(self) -> float | None:
        now, before = self._latency.median, self.before
        if now is None or before is None or min(now.requests, before.requests) < MEDIAN_FROM:
            return None
        return now.p50_us / before.p50_us if before.p50_us > 0 else None

    def _describe_latency(self) -> str:
        known = (one for one in (self._latency.median, self.before) if one is not None)
        return " after ".join(f"{one.p50_us:.0f} µs" for one in known)

    def _explain_errors(self) -> Failure:
        return Failure(
            code="soak.errors",
            message=f"{self.errors} of {self.requests} inferences of the trial failed, "
            f"{self.policy.error_rate_max:.1%} may",
            hint="do the source and the clients give what the model expects?",
        )


def is_too_many(errors: int, requests: int, error_rate_max: float) -> bool:
    """Whether the errors of a whole trial are more than ``error_rate_max`` allows."""
    if errors <= error_rate_max * requests:
        return False
    return requests >= RATE_FROM or errors >= requests or error_rate_max == 0


def lower_bound(errors: int, requests: int) -> float:
    """Return the lower end of the 95 % interval of ``errors / requests`` (Wilson 1927, score interval)."""
    if not errors:
        return 0.0
    share, z2 = errors / requests, _Z * _Z
    centre = share + z2 / (2 * requests)
    spread = _Z * math.sqrt(share * (1 - share) / requests + z2 / (4 * requests * requests))
    return max(0.0, (centre - spread) / (1 + z2 / requests))
