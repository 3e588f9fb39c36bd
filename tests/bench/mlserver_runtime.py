"""A custom runtime for MLServer, as its documentation asks for one: the peer in the benchmark of serving.
Runs in MLServer's own environment.

MLServer's HTTP has no binary tensors (1.7.1 answers them with 422): numbers as JSON, or, the most compact
form that it can carry, the tensor's bytes as one base64 string.
"""

import base64

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Tflite(MLModel):  # type: ignore[misc]  # not installed where types are checked
    async def load(self) -> bool:
        self._interpreter = Interpreter(model_path=self.settings.parameters.uri, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            content = base64.b64decode(given.data.root[0])
            array = np.frombuffer(content, self._input["dtype"]).reshape(self._input["shape"])
        else:
            array = NumpyCodec.decode_input(given)
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(array))
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._output["index"])
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(self._output["name"], output)],
        )
