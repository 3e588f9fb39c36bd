"""Whether a runtime can run a contract, judged before a byte is downloaded.

Neither the file's ``min_runtime_version`` nor an op's version alone can be trusted: a dense
layer with dynamic range and per-channel weights (FULLY_CONNECTED 12) is refused by
tflite-runtime 2.14, and with its version lowered gives garbage. So rules look at the op, its
tensor types and per-channel flag together; golden vectors on the device remain the proof.

Each rule comes from running files with that op on that runtime; docs/runtimes.md has the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet_shared.manifest import Contract, OpUse
from fleet_shared.runtime_range import is_at_least, parse_range, parse_runtime_version

_INTEGERS: Final = frozenset({"int8", "uint8", "int16"})
"""Types of quantized activations."""

_TVM_QUANTIZED: Final = frozenset(
    {
        "ABS", "ADD", "ATAN2", "AVERAGE_POOL_2D", "CEIL", "CONCATENATION", "CONV_2D", "COS",
        "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DETECTION_POSTPROCESS", "DIV", "EQUAL", "EXP", "FLOOR",
        "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GREATER", "GREATER_EQUAL", "HARD_SWISH",
        "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM",
        "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "NEG", "NOT_EQUAL", "POW", "QUANTIZE",
        "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE",
        "RESIZE_BILINEAR", "ROUND", "RSQRT", "SIN", "SOFTMAX", "SQRT", "SQUARED_DIFFERENCE", "SUB",
        "SUM", "TAN", "TANH",
    }
)  # fmt: skip
"""What TVM 0.27 imports with quantized tensors (its ``_SUPPORTED_QUANTIZED_OPS``)."""

_TVM_UNREAD: Final = frozenset(
    {
        "CONCAT_EMBEDDINGS", "DYNAMIC_UPDATE_SLICE", "LSH_PROJECTION", "REDUCE_WINDOW", "RNN",
        "SKIP_GRAM", "STABLEHLO_CASE",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """An op that a runtime, up to and including ``last_version``, cannot run."""

    runtime: str
    last_version: tuple[int, ...]
    applies: Callable[[OpUse], bool]
    reason: str


def _reads_integers(op: OpUse) -> bool:
    return not _INTEGERS.isdisjoint(op.dtypes)


def _is_dynamic(op: OpUse) -> bool:
    """Float activations and integer weights."""
    return op.dtypes[:1] == ("float32",) and not _INTEGERS.isdisjoint(op.dtypes[1:])


def _is_dynamic_per_channel(op: OpUse) -> bool:
    return op.per_channel and op.dtypes[:1] == ("float32",) and "int8" in op.dtypes


def _takes(name: str, dtype: str) -> Callable[[OpUse], bool]:
    return lambda op: op.name == name and op.dtypes[:1] == (dtype,)


_TFLITE: Final = ("tflite_runtime", (2, 14))
_OPENVINO: Final = ("openvino", (2026, 4))
_TVM: Final = ("tvm", (0, 27))

RULES: Final = (
    Rule(
        *_TFLITE,
        lambda op: op.name == "FULLY_CONNECTED" and (op.version >= 12 or _is_dynamic_per_channel(op)),
        "FULLY_CONNECTED with float input and per-channel int8 weights",
    ),
    Rule(*_TFLITE, _takes("SQRT", "int8"), "SQRT of int8 is not among its operators"),
    Rule(*_TFLITE, _takes("RSQRT", "int16"), "RSQRT of int16 is not among its operators"),
    Rule(*_TFLITE, _takes("GELU", "int16"), "GELU of int16 is not among its operators"),
    Rule(*_TFLITE, _takes("TILE", "int16"), "TILE of int16 is not among its operators"),
    Rule(*_TFLITE, _takes("SUM", "int16"), "SUM of int16 gives other answers than LiteRT"),
    Rule(*_OPENVINO, _takes("REDUCE_MAX", "int8"), "REDUCE_MAX of int8 gives other answers than LiteRT"),
    Rule(*_OPENVINO, _takes("FULLY_CONNECTED", "int16"), "FULLY_CONNECTED of int16 is far from LiteRT"),
    Rule(*_OPENVINO, _takes("RSQRT", "int16"), "RSQRT of int16 is far from LiteRT"),
    Rule(*_TVM, lambda op: op.name in _TVM_UNREAD, "an operator that its importer does not read"),
    Rule(*_TVM, lambda op: op.name == "TRANSPOSE_CONV", "TRANSPOSE_CONV cannot be compiled"),
    Rule(*_TVM, _is_dynamic, "integer weights with float input (dynamic range) are not imported"),
    Rule(
        *_TVM,
        lambda op: op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and op.dtypes[:1] == ("int16",),
        "convolutions of int16 are not imported",
    ),
    Rule(*_TVM, _takes("RSQRT", "int16"), "RSQRT of int16 is far from LiteRT"),
    Rule(
        *_TVM,
        lambda op: _reads_integers(op) and not _is_dynamic(op) and op.name not in _TVM_QUANTIZED,
        "an operator that its importer takes in float only, on quantized tensors",
    ),
)


def find_incompatibilities(contract: Contract, runtime: str, version: str) -> tuple[str, ...]:
    """Return why ``runtime`` cannot run ``contract``; empty when nothing speaks against it."""
    numbers = parse_runtime_version(version)
    broken = find_broken_rules(contract.ops, runtime, version)
    wanted = contract.runtimes.get(runtime)
    if wanted is None:
        listed = f"{runtime} is not among the runtimes of the contract: {', '.join(contract.runtimes)}"
        return broken or (listed,)
    try:
        lowest = parse_range(wanted)
    except ValueError as exc:
        return (f"the contract's range for {runtime} cannot be read: {exc}",)
    older = () if is_at_least(numbers, lowest) else (f"{runtime} {version} is older than {wanted}",)
    return older + broken


def find_broken_rules(ops: Sequence[OpUse], runtime: str, version: str) -> tuple[str, ...]:
    """Return each reason why ``runtime`` cannot run these ops once, with the operators that it is for."""
    numbers = parse_runtime_version(version)
    found: dict[str, list[str]] = {}
    for rule in RULES:
        if rule.runtime == runtime and numbers[: len(rule.last_version)] <= rule.last_version:
            names = [op.name for op in ops if rule.applies(op)]
            if names:
                found.setdefault(rule.reason, []).extend(names)
    return tuple(
        reason if names[0] in reason else f"{reason} ({', '.join(dict.fromkeys(names))})"
        for reason, names in found.items()
    )
