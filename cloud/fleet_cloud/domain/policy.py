"""What a rollout's policy may say. Pure."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleet_shared.messages.desired import OverBudget, Policy, WhenTight

SOAK_S_MAX: Final = 24 * 3600.0
DEADLINE_S_MAX: Final = 30 * 24 * 3600.0


@dataclass(frozen=True)
class Bounds:
    """Both ends are allowed."""

    low: float
    high: float
    unit: str


BOUNDS: Final = MappingProxyType(
    {
        "soak_s": Bounds(0, SOAK_S_MAX, "seconds"),
        "deadline_s": Bounds(1, DEADLINE_S_MAX, "seconds"),
        "soak_inferences": Bounds(0, 1_000_000_000, "inferences"),
        "error_rate_max": Bounds(0, 1, "of all inferences"),
        "latency_ratio_max": Bounds(0.1, 1000, "times the previous version"),
        "worker_restarts_max": Bounds(0, 100, "restarts"),
        "memory_bytes_max": Bounds(16 * 1024**2, 2**50, "bytes"),
        "bytes_max": Bounds(0, 2**50, "bytes"),
    }
)
"""One for each number of the policy. No later step could compute with what lies outside."""


@dataclass(frozen=True)
class Problem:
    """Why a policy is refused, and what it may say instead."""

    message: str
    hint: str


def find_problem(policy: Policy) -> Problem | None:
    for name, bounds in BOUNDS.items():
        value = getattr(policy, name)
        if value is not None and not bounds.low <= value <= bounds.high:  # also false for what is no number
            return Problem(
                f"{name} = {value:g} is out of range", f"from {bounds.low:g} to {bounds.high:g} {bounds.unit}"
            )
    for name, choices in (("over_bytes", OverBudget), ("when_tight", WhenTight)):
        if getattr(policy, name) is choices.UNKNOWN:
            known = [choice.value for choice in choices if choice is not choices.UNKNOWN]
            return Problem(f"{name} is not known", f"one of {', '.join(known)}")
    return None
