"""Make a functional model again with other layers in the place of some; all layers are new."""

from collections.abc import Callable
from typing import Any

import keras


def rewrite(model: Any, clone: Callable[[Any], Any], call: Callable[..., Any]) -> Any:
    """Return the model that follows from ``clone`` (a layer into its new one) and ``call`` (of a new layer
    with what it takes). Inputs keep their names, which `keras.models.clone_model` alone does not see to."""
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            name=tensor._keras_history.operation.name,  # noqa: SLF001  the only way
        ),
        model.input,
    )
    return keras.models.clone_model(model, inputs, clone_function=clone, call_function=call)


def copy_layer(layer: Any, **changes: Any) -> Any:
    """Return a layer of the same settings and name, but for ``changes`` of its settings; weights are new."""
    return type(layer).from_config({**layer.get_config(), **changes})
