"""Model files that say something else than they were made with. They need not run."""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def edit(content: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the file after ``change`` was made to its object form."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_op_version(content: bytes, number: int, version: int) -> bytes:
    """Return ``content`` with the version of its operator code ``number`` changed."""

    def change(model: Any) -> None:
        model.operatorCodes[number].version = version

    return edit(content, change)


def with_body(content: bytes, body: bytes) -> bytes:
    """Return ``content`` with the first subgraph of ``body`` as a second one, as a WHILE has it."""

    def change(model: Any) -> None:
        other = schema.ModelT.InitFromObj(schema.Model.GetRootAs(body))
        graph = other.subgraphs[0]
        for operator in graph.operators:
            operator.opcodeIndex += len(model.operatorCodes)
        for tensor in graph.tensors:
            tensor.buffer += len(model.buffers)
        model.operatorCodes += other.operatorCodes
        model.buffers += other.buffers
        model.subgraphs.append(graph)

    return edit(content, change)


def with_types(content: bytes, **types: int) -> bytes:
    """Return ``content`` with the types of the named tensors changed."""

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.type = types.get(tensor.name.decode(), tensor.type)

    return edit(content, change)


def with_flipped_bits(content: bytes, count: int, seed: int) -> bytes:
    """Return ``content`` with ``count`` random bits of its weights flipped, as a bad disk does it."""
    random = np.random.default_rng(seed)

    def change(model: Any) -> None:
        used = {tensor.buffer for tensor in model.subgraphs[0].tensors}
        weights = [
            b for i, b in enumerate(model.buffers) if i in used and b.data is not None and len(b.data) > 99
        ]
        for _ in range(count):
            buffer = weights[random.integers(len(weights))]
            data = np.array(buffer.data, dtype=np.uint8)
            data[random.integers(len(data))] ^= np.uint8(1 << random.integers(8))
            buffer.data = data

    return edit(content, change)
