"""Which runtimes this device can start: found without importing any of them."""

from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

from fleet_shared.messages.reported import RuntimeFact

DISTRIBUTIONS: Final = MappingProxyType({"litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"})
"""Runtime name to the distribution that brings it, in order of preference."""


def find_runtimes() -> tuple[RuntimeFact, ...]:
    found = []
    for name, distribution in DISTRIBUTIONS.items():
        try:
            found.append(RuntimeFact(name=name, version=version(distribution)))
        except PackageNotFoundError:
            continue
    return tuple(found)
