"""One form for a model file: the same weights and operators give the same bytes.

Conversion is not reproducible (tensorflow #55512): buffers and tensors come in another order, names end in
counters of the process, metadata tells of the converter. Here everything is numbered by its first use,
equal buffers are one, inner tensors are named by their operator, and what no runtime reads is left out:
description, metadata, the ranges that scales were made from. Names of inputs and outputs stay, as do
signatures.
"""

from collections.abc import Sequence
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.inspect import BUILTINS, MAGIC

DATA_ALIGNMENT_BYTES: Final = 16
"""What kernels expect of constant tensors (``force_align`` of the schema)."""
_EMPTY: Final = 0
"""The buffer of tensors without constant data."""


def canonicalise(content: bytes) -> bytes:
    """Return the file in its one form; it computes the same. Of a canonical file it returns a copy. Weights
    that lie behind the flatbuffer, as some writers leave them, come into it.

    Raises `Invalid` (``model.file.invalid``) for what is no model file, and for one that keeps weights or
    options elsewhere.
    """
    if content[4:8] != MAGIC:
        raise _invalid("its identifier is missing")
    try:
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        _gather(model, content)
        scattered = _is_scattered(model)
        if not scattered:
            _bring_into_form(model)
    except Exception as exc:  # whatever a damaged file causes, it is refused
        raise _invalid(f"{type(exc).__name__}: {exc}") from exc
    if scattered:
        raise _invalid("it keeps weights or options outside of the flatbuffer")
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())


def _bring_into_form(model: Any) -> None:
    model.description = model.metadata = model.metadataBuffer = None
    numbers = [_renumber_tensors(graph) for graph in model.subgraphs]
    _renumber_signatures(model, numbers)
    _renumber_buffers(model)
    _renumber_op_codes(model)
    for graph in model.subgraphs:
        _strip(graph)
        _name_tensors(graph, [_kind(code) for code in model.operatorCodes])


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """The generated classes forget ``force_align``."""

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - the name of FlatBuffers
        if x.dtype == np.uint8:
            self.StartVector(x.itemsize, x.size, DATA_ALIGNMENT_BYTES)
            self.head -= x.size
            self.Bytes[self.head : self.head + x.size] = x.tobytes()
            self.vectorNumElems = x.size
            return int(self.EndVector())
        return int(super().CreateNumpyVector(x))


def _renumber_tensors(graph: Any) -> dict[int, int]:
    """Bring the tensors into the order of their first use; return their new numbers by the old."""
    used = [*_listed(graph.inputs)]
    for operator in graph.operators or []:
        for some in (operator.inputs, operator.intermediates, operator.outputs):
            used += _listed(some)
    used += _listed(graph.outputs)
    numbers = {old: new for new, old in enumerate(dict.fromkeys(one for one in used if one >= 0))}
    graph.tensors = [graph.tensors[old] for old in numbers]
    graph.inputs, graph.outputs = _mapped(graph.inputs, numbers), _mapped(graph.outputs, numbers)
    for operator in graph.operators or []:
        operator.inputs, operator.outputs = (
            _mapped(operator.inputs, numbers),
            _mapped(operator.outputs, numbers),
        )
        operator.intermediates = _mapped(operator.intermediates, numbers)
    return numbers


def _renumber_signatures(model: Any, numbers: Sequence[dict[int, int]]) -> None:
    for signature in model.signatureDefs or []:
        here = numbers[signature.subgraphIndex]
        for some in (signature.inputs or [], signature.outputs or []):
            for named in some:
                named.tensorIndex = here[named.tensorIndex]
            some.sort(key=lambda named: named.name)
    if model.signatureDefs:
        model.signatureDefs.sort(key=lambda signature: signature.signatureKey)


def _renumber_buffers(model: Any) -> None:
    kept: dict[bytes | None, int] = {None: _EMPTY}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            # A constant of no values is a constant still: without data it would be computed.
            content = None if data is None else np.asarray(data, dtype=np.uint8).tobytes()
            tensor.buffer = kept.setdefault(content, len(kept))
    model.buffers = [_buffer(content) for content in kept]


def _buffer(content: bytes | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if content is None else np.frombuffer(content, dtype=np.uint8)
    return buffer


def _renumber_op_codes(model: Any) -> None:
    operators = [operator for graph in model.subgraphs for operator in graph.operators or []]
    kept: dict[tuple[Any, ...], int] = {}
    codes = []
    for operator in operators:
        code = model.operatorCodes[operator.opcodeIndex]
        key = (code.deprecatedBuiltinCode, code.builtinCode, code.customCode, code.version)
        if key not in kept:
            kept[key] = len(kept)
            codes.append(code)
        operator.opcodeIndex = kept[key]
    model.operatorCodes = codes


def _strip(graph: Any) -> None:
    """Leave out what only people and converters read."""
    graph.debugMetadataIndex = -1
    for operator in graph.operators or []:
        operator.debugMetadataIndex = -1
    for tensor in graph.tensors:
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None and len(quantization.scale):
            quantization.min = quantization.max = None


def _name_tensors(graph: Any, kinds: Sequence[str]) -> None:
    """Name inner tensors by the operator that makes or first takes them: ``conv_2d.3``, ``conv_2d.3:1``."""
    named = {*_listed(graph.inputs), *_listed(graph.outputs)}
    for number, operator in enumerate(graph.operators or []):
        kind = f"{kinds[operator.opcodeIndex]}.{number}"
        taken = [(f"{kind}:{place}", one) for place, one in enumerate(_listed(operator.inputs))]
        made = [
            (f"{kind}.{place}" if place else kind, one) for place, one in enumerate(_listed(operator.outputs))
        ]
        inner = [(f"{kind}+{place}", one) for place, one in enumerate(_listed(operator.intermediates))]
        for name, tensor in (*taken, *made, *inner):
            if tensor >= 0 and tensor not in named:
                graph.tensors[tensor].name = name
                named.add(tensor)


def _kind(code: Any) -> str:
    if code.customCode:
        custom = code.customCode
        return str(custom, "utf-8", "replace") if isinstance(custom, bytes) else str(custom)
    return str(BUILTINS[max(code.builtinCode, code.deprecatedBuiltinCode)]).lower()


def _gather(model: Any, content: bytes) -> None:
    """Take data from where it lies in the file; offsets of 0 and 1 mean: in the flatbuffer."""
    for buffer in model.buffers:
        if buffer.offset > 1:
            data = content[buffer.offset : buffer.offset + buffer.size]
            if len(data) != buffer.size:
                raise ValueError(f"{buffer.size} bytes at {buffer.offset} are not all there")
            buffer.data, buffer.offset, buffer.size = np.frombuffer(data, dtype=np.uint8), 0, 0


def _is_scattered(model: Any) -> bool:
    operators = [operator for graph in model.subgraphs for operator in graph.operators or []]
    return bool(model.externalBuffers or any(operator.largeCustomOptionsOffset > 1 for operator in operators))


def _listed(some: Any) -> list[int]:
    return [] if some is None else [int(one) for one in some]


def _mapped(some: Any, numbers: dict[int, int]) -> Any:
    """Return the new numbers; -1, an operand that is left out, stays."""
    return None if some is None else np.array([numbers.get(one, -1) for one in _listed(some)], dtype=np.int32)


def _invalid(why: str) -> Invalid:
    return Invalid(
        f"the file is not a TFLite model that can be brought into its one form: {why}",
        hint="export it again",
        code="model.file.invalid",
    )
