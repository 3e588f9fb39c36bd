"""Runtimes of the devices that are at hand where a model is built, each in a process of its own.

A device's runtime may compute a model another way than LiteRT does here. Where the agent and the
runtime are installed beside the factory, it is asked beforehand, so that the golden vectors are such as it
can hold; one that is too far off is left out of the contract, and its devices refuse the variant
before they download it. Their libraries must not be loaded beside TensorFlow's.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid

Array = NDArray[Any]

ANSWER_WITHIN_S: Final = 600.0
DISTRIBUTIONS: Final = MappingProxyType({"openvino": "openvino", "tvm": "apache-tvm"})
_AGENT: Final = "fleet-agent"
_COMMAND: Final = "fleet_agent.runtimes.answer"


class Peer(Protocol):
    """A runtime that can be asked."""

    @property
    def name(self) -> str: ...

    def answer(self, content: bytes, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Return the outputs of each sample; raise `Invalid` (``model.peer``) when it has none."""


@runtime_checkable
class TimedPeer(Peer, Protocol):
    """A runtime that can be timed as well."""

    def time(self, content: bytes, samples: Sequence[Sequence[Array]]) -> NDArray[np.float64]:
        """Return the seconds that each sample took, on one thread; raise `Invalid` (``model.peer``)."""


@dataclass(frozen=True)
class InstalledPeer:
    name: str

    def answer(self, content: bytes, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
        found = self._ask(content, samples)
        columns = [found[f"output_{index}"] for index in range(len(found) - 1)]
        return [list(sample) for sample in zip(*columns, strict=True)]

    def time(self, content: bytes, samples: Sequence[Sequence[Array]]) -> NDArray[np.float64]:
        return self._ask(content, samples)["seconds"]

    def _ask(self, content: bytes, samples: Sequence[Sequence[Array]]) -> dict[str, Array]:
        """Return what the runtime's process writes: an array for each output, and ``seconds``."""
        with tempfile.TemporaryDirectory(prefix="fleet-peer-") as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(content)
            inputs = {f"input_{i}": np.stack(column) for i, column in enumerate(zip(*samples, strict=True))}
            np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)
            self._run([folder / file for file in ("model.tflite", "inputs.npz", "outputs.npz")])
            with np.load(folder / "outputs.npz") as archive:
                return {name: archive[name] for name in archive.files}

    def _run(self, files: Sequence[Path]) -> None:
        command = [sys.executable, "-m", _COMMAND, self.name, *(str(file) for file in files)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False,
                timeout=ANSWER_WITHIN_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            raise _no_answer(f"it did not end within {ANSWER_WITHIN_S:g} s") from exc
        if done.returncode:
            said = (done.stdout.strip() or done.stderr.strip()).splitlines()
            raise _no_answer(said[-1] if said else f"its process ended with {done.returncode}")


def find_peers() -> tuple[Peer, ...]:
    """Return those at hand, without importing any."""
    if not _is_installed(_AGENT):
        return ()
    return tuple(InstalledPeer(name) for name, brings in DISTRIBUTIONS.items() if _is_installed(brings))


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _no_answer(message: str) -> Invalid:
    return Invalid(message, hint="devices with this runtime will refuse the variant", code="model.peer")
