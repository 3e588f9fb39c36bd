"""The kernels of a ``.tflite`` file, read without anything of the factory."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_WITH_KERNEL = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}


def read_int8_kernels(content: bytes) -> list[NDArray[np.int8]]:
    """Return the codes of the kernels of convolutions and dense layers, in the order of the operations."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph: Any = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in _WITH_KERNEL:
            tensor = graph.tensors[operator.inputs[1]]
            assert tensor.type == schema.TensorType.INT8
            data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.int8)
            found.append(data.reshape(tensor.shape))
    return found
