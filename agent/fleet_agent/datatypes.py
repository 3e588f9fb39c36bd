"""The Open Inference Protocol's names of numpy's types. BYTES and BF16 have none here: no runtime gives such
tensors."""

from types import MappingProxyType
from typing import Final

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
