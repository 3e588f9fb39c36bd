"""TFLite files made by hand, in milliseconds and without TensorFlow."""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Op = schema.BuiltinOperator


def make_tiny_model(
    classes: int = 4, features: int = 8, *, padding_bytes: int = 0, seed: int = 1, int8: bool = False
) -> bytes:
    """Return a dense layer and a softmax, (1, features) -> (1, classes). ``padding_bytes`` of noise make
    the file as large as a test wants it; the interpreter never looks at them. ``int8``: integer from
    input to output."""
    random = np.random.default_rng(seed)
    graph = Graph(int8=int8)
    x = graph.tensor("x", (1, features), scale=1 / 32)
    weights = random.normal(size=(classes, features)).astype(np.float32) * 4
    logits = _dense(graph, x, weights)
    y = graph.tensor("y", (1, classes), scale=1 / 256, zero_point=-128)
    graph.softmax(logits, y)
    noise = random.integers(0, 256, padding_bytes, dtype=np.uint8) if padding_bytes else None
    return graph.finish([x], [y], noise)


def make_dynamic_model(classes: int = 4, features: int = 8, seed: int = 1) -> bytes:
    """Return a float model with a dense layer of int8 weights: dynamic range, as the converter makes it."""
    graph = Graph()
    x = graph.tensor("x", (1, features))
    weights = np.random.default_rng(seed).integers(-127, 128, (classes, features)).astype(np.int8)
    graph.int8 = True
    w = graph.tensor("weights", weights.shape, weights, scale=8 / 127)
    graph.int8 = False
    y = graph.tensor("y", (1, classes))
    kind = schema.BuiltinOptions.FullyConnectedOptions
    graph.operator(Op.FULLY_CONNECTED, [x, w, -1], [y], kind, schema.FullyConnectedOptionsT(), 3)
    return graph.finish([x], [y])


def make_image_classifier(height: int, width: int, channels: int, classes: int = 4, seed: int = 1) -> bytes:
    """Return a float model (1, height, width, channels) -> (1, classes): reshape, dense, softmax."""
    random = np.random.default_rng(seed)
    graph = Graph()
    shape = (1, height, width, channels)
    x = graph.tensor("x", shape)
    flat = graph.tensor("flat", (1, prod(shape)))
    graph.reshape(x, flat, (1, prod(shape)))
    weights = (random.normal(size=(classes, prod(shape))) / 64).astype(np.float32)
    y = graph.tensor("y", (1, classes))
    graph.softmax(_dense(graph, flat, weights), y)
    return graph.finish([x], [y])


def make_sum_and_product(shape: tuple[int, ...]) -> bytes:
    """Return a float model of two inputs and two outputs of ``shape``: a + b and a * b."""
    graph = Graph()
    a, b, added, multiplied = (graph.tensor(name, shape) for name in ("a", "b", "sum", "product"))
    graph.operator(Op.ADD, [a, b], [added], schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    graph.operator(Op.MUL, [a, b], [multiplied], schema.BuiltinOptions.MulOptions, schema.MulOptionsT())
    return graph.finish([a, b], [added, multiplied])


def _dense(graph: "Graph", x: int, weights: NDArray[np.float32]) -> int:
    scale = 8 / 127
    content = np.rint(weights / scale).clip(-127, 127).astype(np.int8) if graph.int8 else weights
    w = graph.tensor("weights", weights.shape, content, scale=scale)
    logits = graph.tensor("logits", (1, len(weights)), scale=1 / 2)
    options = schema.FullyConnectedOptionsT()
    version = 4 if graph.int8 else 1
    kind = schema.BuiltinOptions.FullyConnectedOptions
    graph.operator(Op.FULLY_CONNECTED, [x, w, -1], [logits], kind, options, version)
    return logits


@dataclass
class Graph:
    """One subgraph in the making; tensors are named by their index."""

    int8: bool = False
    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [_buffer(None)])

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        content: NDArray[Any] | None = None,
        *,
        scale: float = 1.0,
        zero_point: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), 0
        tensor.type = schema.TensorType.INT8 if self.int8 else schema.TensorType.FLOAT32
        if self.int8:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        if content is not None:
            tensor.buffer = len(self.buffers)
            self.buffers.append(_buffer(content))
            if content.dtype == np.int32:
                tensor.type, tensor.quantization = schema.TensorType.INT32, None
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(
        self, builtin: int, inputs: list[int], outputs: list[int], kind: int, options: Any, version: int = 1
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes), inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.codes.append(code)
        self.operators.append(operator)

    def softmax(self, logits: int, y: int) -> None:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        version = 2 if self.int8 else 1
        self.operator(Op.SOFTMAX, [logits], [y], schema.BuiltinOptions.SoftmaxOptions, options, version)

    def reshape(self, x: int, y: int, shape: tuple[int, ...]) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        wanted = self.tensor("shape", (len(shape),), np.array(shape, dtype=np.int32))
        self.operator(Op.RESHAPE, [x, wanted], [y], schema.BuiltinOptions.ReshapeOptions, options)

    def finish(self, inputs: list[int], outputs: list[int], noise: NDArray[np.uint8] | None = None) -> bytes:
        model, graph = schema.ModelT(), schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model.version, model.subgraphs, model.operatorCodes = 3, [graph], self.codes
        model.buffers = list(self.buffers)
        if noise is not None:
            metadata = schema.MetadataT()
            metadata.name, metadata.buffer = "padding", len(model.buffers)
            model.metadata = [metadata]
            model.buffers.append(_buffer(noise))
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _buffer(array: NDArray[Any] | None) -> Any:
    buffer = schema.BufferT()
    if array is not None:
        buffer.data = np.frombuffer(array.tobytes(), dtype=np.uint8)
    return buffer
