"""What a ``.tflite`` file says of itself, read from its flatbuffer: tensors, ops, quantization."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from fleet_cloud.errors import Invalid
from fleet_shared.compatibility import RULES
from fleet_shared.manifest import OpUse, Quantization, Tensor

BUILTINS: Final = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)
}
_DTYPES: Final = {
    number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)
}
_ITEM_BYTES: Final = {"float32": 4, "int32": 4, "int64": 8, "float16": 2, "int16": 2, "float64": 8}
MAGIC: Final = b"TFL3"
CHANNELS_FIRST: Final = (
    "the model takes channels first (NCHW), as PyTorch's do: "
    "convert it for channels last, as docs/pytorch.md shows"
)
_COMPUTED: Final = frozenset({"float32", "float16", "int16", "int8", "uint8", "int4"})
"""Types of weights and activations; int32 and int64 are biases, shapes and indices."""
_FLOATS: Final = {"float32": "fp32", "float16": "fp16"}


@dataclass(frozen=True)
class FileFacts:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[OpUse, ...]
    """Of all subgraphs: the bodies of WHILE and IF count as well."""
    memory_bytes: int
    runtimes: dict[str, str]
    variant: str
    """What the variant is called, judged by the types of weights and activations."""


def inspect_file(content: bytes) -> FileFacts:
    """Return the facts of a file; raise `Invalid` (``model.file.invalid``) when it is not one."""
    if content[4:8] != MAGIC:
        raise Invalid(
            "the file is not a TFLite model (its identifier is missing)",
            hint="convert the model to .tflite first",
            code="model.file.invalid",
        )
    try:
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        graph = model.subgraphs[0]
        ops = _read_ops(model)
        tensors = [tensor for each in model.subgraphs for tensor in each.tensors]
        return FileFacts(
            inputs=tuple(_read_tensor(graph.tensors[index]) for index in graph.inputs),
            outputs=tuple(_read_tensor(graph.tensors[index]) for index in graph.outputs),
            ops=ops,
            memory_bytes=len(content) + sum(_tensor_bytes(tensor) for tensor in tensors),
            runtimes=_runtimes(ops),
            variant=_name_variant(model, tensors),
        )
    except Exception as exc:  # whatever a damaged file causes, it is refused
        raise Invalid(
            f"the file is a damaged TFLite model: {exc}", hint="export it again", code="model.file.invalid"
        ) from exc


def is_channels_first(takes: Sequence[int], sample: Sequence[int]) -> bool:
    """Tell whether a model takes samples of this shape with the channels before height and width: PyTorch's
    layout, NCHW. Both without a batch."""
    return len(sample) == 3 and tuple(takes) == (sample[-1], *sample[:-1]) != tuple(sample)


def _read_tensor(tensor: Any) -> Tensor:
    shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    quantization = tensor.quantization
    scales = None if quantization is None else quantization.scale
    return Tensor(
        name=_text(tensor.name),
        dtype=_DTYPES[tensor.type],
        shape=tuple(int(size) for size in (shape if shape is not None else ())),
        quantization=None
        if scales is None or len(scales) != 1
        else Quantization(scale=float(scales[0]), zero_point=int(quantization.zeroPoint[0])),
    )


def _read_ops(model: Any) -> tuple[OpUse, ...]:
    counted: Counter[tuple[str, int, tuple[str, ...], bool]] = Counter()
    for graph, operator in [(each, op) for each in model.subgraphs for op in each.operators]:
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = _text(code.customCode) if code.customCode else BUILTINS[builtin]
        tensors = [None if index < 0 else graph.tensors[index] for index in operator.inputs]
        dtypes = tuple("" if tensor is None else _DTYPES[tensor.type] for tensor in tensors)
        counted[name, code.version, dtypes, any(map(_is_per_channel, tensors))] += 1
    return tuple(
        OpUse(name=name, version=version, dtypes=dtypes, per_channel=per_channel, count=count)
        for (name, version, dtypes, per_channel), count in sorted(counted.items())
    )


def _name_variant(model: Any, tensors: Sequence[Any]) -> str:
    """Name the arithmetic: ``fp32``, ``fp16``, ``int8``, ``int16x8``, ``dynamic`` (int8 weights, float
    activations), else the type of most weights; without weights, that of the activations."""
    weights: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    for tensor in tensors:
        dtype, data = _DTYPES[tensor.type], model.buffers[tensor.buffer].data
        if dtype in _COMPUTED:
            constant = data is not None and len(data)
            (weights if constant else activations)[dtype] += _tensor_bytes(tensor)
    kind = max(weights or activations, key=(weights or activations).__getitem__, default="float32")
    if kind == "int8" and weights and "int8" not in activations:
        return "int16x8" if "int16" in activations else "dynamic"
    return _FLOATS.get(kind, kind)


def _is_per_channel(tensor: Any) -> bool:
    quantization = None if tensor is None else tensor.quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 1


def _tensor_bytes(tensor: Any) -> int:
    size = _ITEM_BYTES.get(_DTYPES[tensor.type], 1)
    for length in tensor.shape if tensor.shape is not None else ():
        size *= max(1, int(length))
    return size


def _runtimes(ops: tuple[OpUse, ...]) -> dict[str, str]:
    """Return the runtimes that may run these ops; rules say which may not."""
    refused = {rule.runtime for rule in RULES if any(rule.applies(op) for op in ops)}
    known = {"litert": ">=1.0", "tflite_runtime": ">=2.14", "openvino": ">=2025", "tvm": ">=0.27"}
    return {name: version for name, version in known.items() if name not in refused}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
