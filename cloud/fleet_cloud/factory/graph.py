"""The layers of a functional Keras model as a graph, by name."""

from dataclasses import dataclass
from typing import Any

import keras

from fleet_cloud.errors import BuildError


@dataclass(frozen=True)
class Node:
    """``sources``: the names of the layers whose outputs this one takes, in the order of its arguments."""

    layer: Any
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.layer.name)


def read_graph(model: Any) -> dict[str, Node]:
    """Return the nodes by name, sources before those that take them.

    Raises `BuildError` (``build.graph``) for a layer that is called more than once, or a model inside the
    model (`flatten` takes those apart).
    """
    found: dict[str, Node] = {}
    inside = {id(operation) for operation in model.operations}
    for operation in model.operations:
        calls = [_origins(node) for node in operation._inbound_nodes]  # noqa: SLF001  the only way
        nodes = [sources for sources in calls if all(id(one) in inside for one in sources)]
        if len(nodes) > 1 or isinstance(operation, keras.Model):
            raise BuildError(
                f"layer {operation.name!r} is {'a model' if len(nodes) == 1 else 'called more than once'}",
                hint="write the model with one call for each layer",
                code="build.graph",
            )
        found[operation.name] = Node(operation, tuple(str(one.name) for one in nodes[0]))
    return found


def _origins(node: Any) -> list[Any]:
    """Return the layers whose outputs one call of a layer takes."""
    return [tensor._keras_history.operation for tensor in node.input_tensors]  # noqa: SLF001
