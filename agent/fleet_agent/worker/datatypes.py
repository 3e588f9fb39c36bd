"""Whether the Open Inference Protocol can carry a model's tensors."""

from collections.abc import Iterable

from fleet_agent.datatypes import DATATYPES
from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.port import TensorInfo


def check_datatypes(infos: Iterable[TensorInfo]) -> None:
    """Raise `WorkerError` (``worker.datatype``) for a tensor that the protocol cannot carry."""
    for info in infos:
        if info.dtype.name not in DATATYPES:
            raise WorkerError(
                f"tensor {info.name!r} has type {info.dtype}, which inference requests cannot carry",
                hint="build a variant whose inputs and outputs are numbers or booleans",
                code="worker.datatype",
            )
