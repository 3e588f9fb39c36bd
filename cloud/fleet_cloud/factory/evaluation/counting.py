"""How much a ``.tflite`` file computes and holds, where there is no network to count on.

The rules are those of `fleet_cloud.factory.operations`, read from the flatbuffer: multiply-accumulates of one
inference are the size of a kernel times the positions at which it is used; biases, activations, pooling and
element-wise arithmetic are not counted. What the converter folded (batch normalisation) or detached is not in
the file, so its numbers are a little smaller than the network's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.evaluation.tensors import COMPUTED

Op: Final = schema.BuiltinOperator
Shapes = list[list[int]]
"""Of the inputs of an operator, empty for one that is left out."""


@dataclass(frozen=True)
class Counts:
    """``parameters``: the values of all weights and biases. ``operations``: none where an operator's cannot
    be counted: loops, recurrent ones, those of other people, sizes that are left open."""

    parameters: int
    operations: int | None


def count_file(content: bytes) -> Counts:
    """Raise `Invalid` (``model.file.invalid``) for a damaged file."""
    try:
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        return Counts(_count_parameters(model), _count_operations(model))
    except Exception as exc:  # whatever a damaged file causes, it is refused
        raise Invalid(
            f"the file is a damaged TFLite model: {exc}", hint="export it again", code="model.file.invalid"
        ) from exc


def _count_parameters(model: Any) -> int:
    """Count each constant once, however many operators use it: converters keep equal ones once."""
    counted: dict[int, int] = {}
    for graph in model.subgraphs:
        biases = {index for op in graph.operators for index in _find_bias(model, op)}
        for index, tensor in enumerate(graph.tensors):
            shape = _shape(tensor)
            weighs = index in biases or (shape and tensor.type in _WEIGHTS)
            if weighs and _is_constant(model, tensor):
                counted[tensor.buffer] = prod(shape)
    return sum(counted.values())


def _count_operations(model: Any) -> int | None:
    graph, total = model.subgraphs[0], 0
    for op in graph.operators:
        code = _find_code(model, op)
        if code in _UNKNOWN:
            return None
        if code in _COUNTED:
            tensors = [graph.tensors[index] for index in (*op.inputs, *op.outputs) if index >= 0]
            if any(_is_open(tensor) for tensor in tensors):
                return None
            shapes = [_shape(graph.tensors[index]) if index >= 0 else [] for index in op.inputs]
            total += _COUNTED[code](op, shapes, prod(_shape(graph.tensors[op.outputs[0]])))
    return total


def _find_code(model: Any, op: Any) -> int:
    code = model.operatorCodes[op.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _find_bias(model: Any, op: Any) -> list[int]:
    number = _BIASES.get(_find_code(model, op))
    return [] if number is None else list(op.inputs[number : number + 1])


def _shape(tensor: Any) -> list[int]:
    return [] if tensor.shape is None else [int(size) for size in tensor.shape]


def _is_open(tensor: Any) -> bool:
    """Tell whether a size beside the batch is left open."""
    signature = tensor.shapeSignature
    return signature is not None and any(int(size) < 0 for size in signature[1:])


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return buffer.offset > 1 or (buffer.data is not None and len(buffer.data) > 0)


def _by_first(_op: Any, shapes: Shapes, given: int) -> int:
    """A kernel whose filters are its first axis, used at each output."""
    return given * prod(shapes[1][1:])


def _by_last(_op: Any, shapes: Shapes, given: int) -> int:
    """A kernel whose filters are its last axis, used at each output."""
    return given * prod(shapes[1][:-1])


def _transposed(_op: Any, shapes: Shapes, _given: int) -> int:
    """Inputs: the output's shape, a kernel whose last axis are the channels taken, what it is used on."""
    return prod(shapes[2]) * prod(shapes[1][:-1])


def _product(op: Any, shapes: Shapes, given: int) -> int:
    return given * shapes[0][-2 if op.builtinOptions is not None and op.builtinOptions.adjX else -1]


_COUNTED: Final[Mapping[int, Callable[[Any, Shapes, int], int]]] = MappingProxyType({
    Op.CONV_2D: _by_first,
    Op.FULLY_CONNECTED: _by_first,
    Op.DEPTHWISE_CONV_2D: _by_last,
    Op.CONV_3D: _by_last,
    Op.TRANSPOSE_CONV: _transposed,
    Op.CONV_3D_TRANSPOSE: _transposed,
    Op.BATCH_MATMUL: _product,
})  # fmt: skip
_BIASES: Final = MappingProxyType({
    Op.CONV_2D: 2,
    Op.FULLY_CONNECTED: 2,
    Op.DEPTHWISE_CONV_2D: 2,
    Op.CONV_3D: 2,
    Op.TRANSPOSE_CONV: 3,
    Op.CONV_3D_TRANSPOSE: 3,
})  # fmt: skip
"""Which input is the bias: in int8 it is int32, a type that shapes and indices have as well."""
_UNKNOWN: Final = frozenset({
    Op.CUSTOM, Op.DELEGATE, Op.IF, Op.WHILE, Op.CALL, Op.CALL_ONCE, Op.RNN, Op.LSTM, Op.SVDF,
    Op.UNIDIRECTIONAL_SEQUENCE_RNN, Op.BIDIRECTIONAL_SEQUENCE_RNN, Op.UNIDIRECTIONAL_SEQUENCE_LSTM,
    Op.BIDIRECTIONAL_SEQUENCE_LSTM,
    *(number for name, number in vars(Op).items() if name.startswith("STABLEHLO_")),
})  # fmt: skip
_WEIGHTS: Final = frozenset({*COMPUTED, schema.TensorType.INT4})
