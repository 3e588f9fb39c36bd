"""Whether a runtime can run a contract, judged before a byte is downloaded.

Neither the file's ``min_runtime_version`` nor an op's version alone can be trusted: a dense
layer with dynamic range and per-channel weights (FULLY_CONNECTED 12) is refused by
tflite-runtime 2.14, and with its version lowered gives garbage. So rules look at the op, its
tensor types and per-channel flag together; golden vectors on the device remain the proof.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet_shared.manifest import Contract, OpUse
from fleet_shared.runtime_range import is_at_least, parse_range, parse_runtime_version


@dataclass(frozen=True)
class Rule:
    """An op that a runtime, up to and including ``last_version``, cannot run."""

    runtime: str
    last_version: tuple[int, ...]
    applies: Callable[[OpUse], bool]
    reason: str


RULES: Final = (
    Rule(
        runtime="tflite_runtime",
        last_version=(2, 14),
        applies=lambda op: op.name == "FULLY_CONNECTED" and (op.version >= 12 or _is_dynamic_per_channel(op)),
        reason="FULLY_CONNECTED with float input and per-channel int8 weights",
    ),
)


def find_incompatibilities(contract: Contract, runtime: str, version: str) -> tuple[str, ...]:
    """Return why ``runtime`` cannot run ``contract``; empty when nothing speaks against it."""
    wanted = contract.runtimes.get(runtime)
    if wanted is None:
        return (f"{runtime} is not among the runtimes of the contract: {', '.join(contract.runtimes)}",)
    try:
        lowest = parse_range(wanted)
    except ValueError as exc:
        return (f"the contract's range for {runtime} cannot be read: {exc}",)
    numbers = parse_runtime_version(version)
    reasons = []
    if not is_at_least(numbers, lowest):
        reasons.append(f"{runtime} {version} is older than {wanted}")
    for rule in RULES:
        if rule.runtime == runtime and numbers[: len(rule.last_version)] <= rule.last_version:
            reasons += [rule.reason for op in contract.ops if rule.applies(op)]
    return tuple(dict.fromkeys(reasons))


def _is_dynamic_per_channel(op: OpUse) -> bool:
    return op.per_channel and op.dtypes[:1] == ("float32",) and "int8" in op.dtypes
