"""A network as files, for the cache: the model, its constraints, precision and step sizes. What comes back
computes the same, bit for bit."""

import io
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.constraints import CONSTRAINTS, Constraint
from fleet_cloud.factory.keras_file import read_keras, write_keras
from fleet_cloud.factory.network import Network, Precision

MODEL: Final = "model.keras"
ARRAYS: Final = "constraints.npz"
REST: Final = "network.json"
_ARRAY: Final = "array"

Array = NDArray[Any]


def write_network(network: Network) -> dict[str, bytes]:
    """Return the files by name."""
    arrays: dict[str, Array] = {}
    constraints = {
        path: {"kind": constraint.kind, "fields": _take_apart(constraint, arrays)}
        for path, constraint in sorted(network.constraints.items())
    }
    step_sizes = {path: _store(unit, arrays) for path, unit in sorted(network.step_sizes.items())}
    rest = {"precision": asdict(network.precision), "constraints": constraints, "step_sizes": step_sizes}
    return {
        MODEL: write_keras(network.model),
        ARRAYS: _write_arrays(arrays),
        REST: msgspec.json.encode(rest, order="deterministic"),
    }


def read_network(files: Mapping[str, bytes]) -> Network:
    """Return the network; raises `KeyError`, `ValueError` or what Keras raises for files that hold none."""
    rest = msgspec.json.decode(files[REST])
    with np.load(io.BytesIO(files[ARRAYS])) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Network(
        read_keras(files[MODEL]),
        {path: _put_together(each, arrays) for path, each in rest["constraints"].items()},
        Precision(**{name: _as_tuple(value) for name, value in rest["precision"].items()}),
        {path: _load(unit, arrays) for path, unit in rest["step_sizes"].items()},
    )


def _take_apart(constraint: Any, arrays: dict[str, Array]) -> dict[str, Any]:
    """``constraint``: a dataclass, which its protocol asks for and cannot say."""
    return {field.name: _store(getattr(constraint, field.name), arrays) for field in fields(constraint)}


def _store(value: Any, arrays: dict[str, Array]) -> Any:
    """Return what stands for ``value`` in JSON; an array goes to ``arrays``, its number stands for it."""
    if isinstance(value, (np.ndarray, np.generic)):
        number = str(len(arrays))
        arrays[number] = np.asarray(value)
        return {_ARRAY: number}
    if isinstance(value, (tuple, list)):
        return [_store(one, arrays) for one in value]
    return value


def _put_together(stored: Mapping[str, Any], arrays: Mapping[str, Array]) -> Constraint:
    kind: Any = CONSTRAINTS[stored["kind"]]
    made: Constraint = kind(**{name: _load(value, arrays) for name, value in stored["fields"].items()})
    return made


def _load(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, dict):
        return arrays[value[_ARRAY]]
    return tuple(_load(one, arrays) for one in value) if isinstance(value, list) else value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _write_arrays(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()
