"""The protocol's names of numpy's types. BYTES and BF16 have none here: no runtime gives such tensors."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo

DATATYPES: Final = MappingProxyType(
    {
        "bool": "BOOL",
        "uint8": "UINT8",
        "uint16": "UINT16",
        "uint32": "UINT32",
        "uint64": "UINT64",
        "int8": "INT8",
        "int16": "INT16",
        "int32": "INT32",
        "int64": "INT64",
        "float16": "FP16",
        "float32": "FP32",
        "float64": "FP64",
    }
)


def check_datatypes(infos: Iterable[TensorInfo]) -> None:
    """Raise `WorkerError` (``worker.datatype``) for a tensor that the protocol cannot carry."""
    for info in infos:
        if info.dtype.name not in DATATYPES:
            raise WorkerError(
                f"tensor {info.name!r} has type {info.dtype}, which inference requests cannot carry",
                hint="build a variant whose inputs and outputs are numbers or booleans",
                code="worker.datatype",
            )
