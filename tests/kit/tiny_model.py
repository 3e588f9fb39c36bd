"""A TFLite file made by hand: one dense layer and a softmax, without TensorFlow."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def make_tiny_model(classes: int = 4, features: int = 8, *, padding_bytes: int = 0, seed: int = 1) -> bytes:
    """Return a float model (1, features) -> (1, classes). ``padding_bytes`` of noise make the file
    as large as a test wants it; the interpreter never looks at them."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(classes, features)).astype(np.float32) * 4
    model = schema.ModelT()
    model.version = 3
    noise = random.integers(0, 256, padding_bytes, dtype=np.uint8)
    model.buffers = [_buffer(None), _buffer(weights), _buffer(noise if padding_bytes else None)]
    model.operatorCodes = [
        _code(schema.BuiltinOperator.FULLY_CONNECTED),
        _code(schema.BuiltinOperator.SOFTMAX),
    ]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", (1, features), 0),
        _tensor("weights", (classes, features), 1),
        _tensor("logits", (1, classes), 0),
        _tensor("y", (1, classes), 0),
    ]
    graph.inputs, graph.outputs = [0], [3]
    dense = _operator(0, [0, 1, -1], [2], schema.BuiltinOptions.FullyConnectedOptions)
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    softmax = _operator(1, [2], [3], schema.BuiltinOptions.SoftmaxOptions)
    softmax.builtinOptions = schema.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph.operators = [dense, softmax]
    model.subgraphs = [graph]
    if padding_bytes:
        metadata = schema.MetadataT()
        metadata.name, metadata.buffer = "padding", 2
        model.metadata = [metadata]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(array: NDArray[Any] | None) -> Any:
    buffer = schema.BufferT()
    if array is not None:
        buffer.data = np.frombuffer(array.tobytes(), dtype=np.uint8)
    return buffer


def _code(builtin: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    return code


def _tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), buffer
    tensor.type = schema.TensorType.FLOAT32
    return tensor


def _operator(code: int, inputs: list[int], outputs: list[int], options: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType = options
    return operator
