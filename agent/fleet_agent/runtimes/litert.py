"""LiteRT (package ai-edge-litert)."""

from importlib.metadata import version

from ai_edge_litert.interpreter import Interpreter

from fleet_agent.runtimes.port import Model
from fleet_agent.runtimes.tflite import TfliteModel


class LiteRt:
    name = "litert"

    def __init__(self) -> None:
        self.version = version("ai-edge-litert")

    def load(self, path: str, threads: int) -> Model:
        return TfliteModel(lambda: Interpreter(model_path=path, num_threads=threads))
