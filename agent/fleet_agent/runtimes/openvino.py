"""OpenVINO (package openvino): reads ``.tflite`` files directly, and runs them on the CPU.

It computes in float32 where the device would offer less (half precision on Arm), and on x86 processors whose
products of 8 bits saturate it computes int8 models in float32 too, for the same answers as everywhere. Its
Python package starts a telemetry client when it is imported: that one is shut out.
"""

import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.model_file import load_signature
from fleet_agent.runtimes.port import Array, Model, TensorInfo, fit

SUFFIX: Final = ".tflite"
CPU_FLAGS: Final = Path("/proc/cpuinfo")


def import_openvino() -> Any:
    """Import the package with its telemetry replaced by its own stub: nothing phones home."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # none: cannot be imported
    import openvino

    return openvino


class OpenVino:
    name = "openvino"

    def __init__(self) -> None:
        self._openvino = import_openvino()
        self.version = version("openvino")

    def load(self, path: str, threads: int) -> Model:
        return OpenVinoModel(self._openvino, path, threads)


class OpenVinoModel:
    """A compiled model, in the shapes that the file was made for."""

    def __init__(self, openvino: Any, path: str, threads: int) -> None:
        signature = load_signature(path)
        self.inputs, self.outputs = signature.inputs, signature.outputs
        try:
            self._request = _compile(openvino, path, self.inputs, threads).create_infer_request()
            model = self._request.get_compiled_model()
            self._input_places = _find_places(model.inputs, self.inputs)
            self._output_places = _find_places(model.outputs, self.outputs)
        except (RuntimeError, ValueError, TypeError) as exc:
            raise WorkerError(
                f"OpenVINO rejects the model: {str(exc).strip()}",
                hint="build a variant for this runtime, or allow another runtime on this device",
                code="worker.model.rejected",
            ) from exc

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        given = dict(zip(self._input_places, inputs, strict=True))
        try:
            answers = self._request.infer(given)
            return [
                fit(answers[place], info)
                for place, info in zip(self._output_places, self.outputs, strict=True)
            ]
        except (RuntimeError, ValueError, TypeError) as exc:
            raise WorkerError(f"inference failed: {str(exc).strip()}", code="worker.invoke") from exc


def _compile(openvino: Any, path: str, inputs: Sequence[TensorInfo], threads: int) -> Any:
    core = openvino.Core()
    with _named(path) as file:
        model = core.read_model(file)
    places = _find_places(model.inputs, inputs)
    model.reshape({place: list(info.shape) for place, info in zip(places, inputs, strict=True)})
    return core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned threads of two workers would sit on the same cores during a swap.
            "ENABLE_CPU_PINNING": False,
            **({"LP_TRANSFORMS_MODE": "NO"} if sums_saturate() else {}),
        },
    )


def sums_saturate(machine: str | None = None, flags: Path = CPU_FLAGS) -> bool:
    """Return whether integer kernels of this processor clip: x86 without VNNI adds pairs of 8-bit products
    in 16 bits, and large weights run over. What cannot be read counts as such a processor."""
    if (machine or platform.machine()).lower() not in {"x86_64", "amd64"}:
        return False
    try:
        return "vnni" not in flags.read_text(encoding="ascii", errors="replace")
    except OSError:
        return True


@contextmanager
def _named(path: str) -> Iterator[str]:
    """Yield a name of this file by which OpenVINO sees what it is; the name lives as long as the reading."""
    if path.endswith(SUFFIX):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:  # of this user alone
        name = Path(folder) / f"model{SUFFIX}"
        name.symlink_to(path)
        yield str(name)


def _find_places(ports: Sequence[Any], infos: Sequence[TensorInfo]) -> list[int]:
    """Return for each of the file's tensors where OpenVINO has it: by name, else in order."""
    if len(ports) != len(infos):
        raise ValueError(f"it has {len(ports)} tensors where the file has {len(infos)}")
    names = [port.get_names() for port in ports]
    places = [next((i for i, known in enumerate(names) if info.name in known), -1) for info in infos]
    return places if sorted(places) == list(range(len(ports))) else list(range(len(ports)))
