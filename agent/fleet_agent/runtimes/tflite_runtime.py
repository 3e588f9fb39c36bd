"""tflite-runtime 2.14, the last of its line: needs numpy below 2."""

from importlib.metadata import version

from tflite_runtime.interpreter import Interpreter

from fleet_agent.runtimes.port import Model
from fleet_agent.runtimes.tflite import TfliteModel


class TfliteRuntime:
    name = "tflite_runtime"

    def __init__(self) -> None:
        self.version = version("tflite-runtime")

    def load(self, path: str, threads: int) -> Model:
        return TfliteModel(lambda: Interpreter(model_path=path, num_threads=threads))
