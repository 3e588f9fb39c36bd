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
    numbers = parse_runtime_version(version)
    reasons = []
    if wanted and numbers < parse_runtime_version(wanted.removeprefix(">=")):
        reasons.append(f"{runtime} {version} is older than {wanted}")
    for rule in RULES:
        if rule.runtime == runtime and numbers[: len(rule.last_version)] <= rule.last_version:
            reasons += [rule.reason for op in contract.ops if rule.applies(op)]
    return tuple(dict.fromkeys(reasons))


def parse_runtime_version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``2.14.0.post1`` gives (2, 14, 0)."""
    numbers = []
    for word in text.strip().split("."):
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            break
        numbers.append(int(word))
    return tuple(numbers)


def _is_dynamic_per_channel(op: OpUse) -> bool:
    return op.per_channel and op.dtypes[:1] == ("float32",) and "int8" in op.dtypes
