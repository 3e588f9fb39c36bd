"""The layers of a functional Keras model as a graph, and models made anew of changed layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError

Array = NDArray[Any]
Config = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a layer. ``inputs``, ``outputs``: symbolic tensors (compare them by identity);
    ``constants``: the arguments that are no such tensors."""

    layer: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    constants: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Node:
    """``sources``: the names of the layers whose outputs this one takes, in the order of its arguments."""

    layer: Any
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.layer.name)


def read_calls(model: Any) -> list[Call]:
    """Return every call that the model makes, those that give a tensor before those that take it.

    A layer that is called twice is there twice; what the same layers do in other models is not there.
    Raises `BuildError` (``build.graph``) for a model that is neither functional nor a built `Sequential`.
    """
    by_depth = _graph_of(model)._nodes_by_depth  # noqa: SLF001  the only way
    return [
        Call(node.operation, tuple(node.input_tensors), tuple(node.output_tensors), _constants(node))
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


def read_graph(model: Any) -> dict[str, Node]:
    """Return the nodes by name, sources before those that take them.

    Raises `BuildError` (``build.graph``) for a layer that is called more than once, or a model inside the
    model (`flatten` takes those apart).
    """
    found: dict[str, Node] = {}
    for call in read_calls(model):
        name = str(call.layer.name)
        if name in found or isinstance(call.layer, keras.Model):
            raise BuildError(
                f"layer {name!r} is {'called more than once' if name in found else 'a model'}",
                hint="write the model with one call for each layer",
                code="build.graph",
            )
        sources = tuple(str(one._keras_history.operation.name) for one in call.inputs)  # noqa: SLF001
        found[name] = Node(call.layer, sources)
    return found


def flatten(model: Any) -> Any:
    """Return a functional model of the same layers, weights and outputs in which no model is inside.

    Layers keep their names; one inside a model whose name is taken gets that model's name before its own.
    A layer that is called several times stays one layer. Subclassed models inside stay as they are.
    """
    nested = any(_can_be_taken_apart(call.layer) for call in read_calls(model))
    return rebuild(model) if nested or isinstance(model, keras.Sequential) else model


def remake(layer: Any, config: Config) -> Any:
    """Return a layer of the same kind with this configuration; weights are new."""
    return type(layer).from_config(config)


def rebuild(
    model: Any,
    make: Callable[[Any, Config], Any] = remake,
    weigh: Callable[[Any], list[Array]] = lambda layer: list(layer.get_weights()),
    call: Callable[..., Any] = lambda own, *args, **kwargs: own(*args, **kwargs),
) -> Any:
    """Return the model made anew, with layers of its own. Models inside are taken apart, as `flatten` says.

    ``make``: from a layer and its configuration to the one in its place; ``weigh``: from a layer to the
    weights of that, none if it is never called; ``call``: of the new layer, with what it takes.
    """
    graph = _graph_of(model)
    builder = _Builder({str(one.name) for one in graph.operations}, make, call)
    inputs = keras.tree.map_structure(_input_like, graph.input)
    outputs = graph._run_through_graph(inputs, call_fn=builder.call)  # noqa: SLF001
    made = keras.Model(inputs, outputs, name=model.name)
    for layer, own in builder.made:
        if isinstance(layer, keras.Layer):
            own.set_weights(weigh(layer))
    return made


class _Builder:
    """Calls a layer of its own in each layer's place, and what is in a model in the model's place."""

    def __init__(
        self, taken: set[str], make: Callable[[Any, Config], Any], call_own: Callable[..., Any]
    ) -> None:
        self.made: list[tuple[Any, Any]] = []
        self._own: dict[int, Any] = {}
        self._taken, self._make, self._call_own = taken, make, call_own

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not _can_be_taken_apart(layer):
            return self._call_own(self._get(layer, None), *args, **kwargs)
        return self._call_inside(layer, *args, **kwargs)

    def _call_inside(self, model: Any, inputs: Any, training: bool | None = None, **_: Any) -> Any:
        """``training``: a model that is called for inference only has all its layers called so."""

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            told = {"training": training} if training is not None and _takes_training(layer) else {}
            if _can_be_taken_apart(layer):
                return self._call_inside(layer, *args, **{**kwargs, **told})
            return self._call_own(self._get(layer, model), *args, **{**kwargs, **told})

        return _graph_of(model)._run_through_graph(inputs, call_fn=call)  # noqa: SLF001

    def _get(self, layer: Any, inside: Any) -> Any:
        if id(layer) not in self._own:
            config = dict(layer.get_config())
            if inside is not None:
                config["name"] = self._free_name(str(layer.name), str(inside.name))
            self._own[id(layer)] = self._make(layer, config)
            self.made.append((layer, self._own[id(layer)]))
        return self._own[id(layer)]

    def _free_name(self, name: str, prefix: str) -> str:
        found, number = name, 0
        while found in self._taken:
            found = f"{prefix}_{name}" + (f"_{number}" if number else "")
            number += 1
        self._taken.add(found)
        return found


def _graph_of(model: Any) -> Any:
    """Return the function that a model computes."""
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional  # noqa: SLF001
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise BuildError(
            f"model {getattr(model, 'name', model)!r} is no functional model",
            hint="write it with keras.Input and keras.Model(inputs, outputs)",
            code="build.graph",
        )
    return model


def _constants(node: Any) -> tuple[Any, ...]:
    arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return tuple(one for one in arguments if not isinstance(one, keras.KerasTensor))


def _can_be_taken_apart(layer: Any) -> bool:
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "_nodes_by_depth")
    )


def _takes_training(layer: Any) -> bool:
    return _can_be_taken_apart(layer) or bool(getattr(layer, "_call_has_training_arg", False))


def _input_like(tensor: Any) -> Any:
    name = tensor._keras_history.operation.name  # noqa: SLF001
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
