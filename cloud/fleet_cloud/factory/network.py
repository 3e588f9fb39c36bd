"""What goes from pass to pass: a Keras model that ends in logits, and what its weights must keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.constraints import Constraint

Array = NDArray[Any]


@dataclass(frozen=True)
class Precision:
    """How the numbers of the file shall be kept. ``keep_float``: layers, by name, that are left in float.
    ``aware``: the model holds fake quantization, the converter needs no samples."""

    kind: Literal["fp32", "float16", "dynamic-range", "int8", "int16x8"] = "fp32"
    aware: bool = False
    per_channel_dense: bool = True
    calibration_samples: int = 300
    keep_float: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """``constraints``: by the path of the weight, for each weight that is not free. ``step_sizes``: by the
    path of a weight that was scaled down, what it takes for 1 while it is trained, in a shape that broadcasts
    to it: so that its steps shrink as it did. A pass never changes the model that it was given: it works on a
    copy (`copy_model`)."""

    model: Any
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    precision: Precision = Precision()
    step_sizes: Mapping[str, Array] = field(default_factory=dict)

    def with_model(self, model: Any) -> "Network":
        return replace(self, model=model)

    def constrain(self, constraints: Mapping[str, Constraint]) -> "Network":
        """Return the network with these constraints besides its others, and its weights as they say."""
        model = copy_model(self.model)
        weights = weights_of(model)
        for path, constraint in constraints.items():
            weights[path].assign(weight_of(constraint))
        return replace(self, model=model, constraints={**self.constraints, **constraints})


def weights_of(model: Any) -> dict[str, Any]:
    """Return the variables of a model by their path (``conv2d/kernel``), which copies share."""
    return {weight.path: weight for weight in model.weights}


def array_of(variable: Any) -> Array:
    """Return the value of a variable or a tensor, of its own."""
    return np.asarray(keras.ops.convert_to_tensor(variable)).copy()


def layers_of(model: Any) -> list[Any]:
    """Return the layers that are no models themselves, in order."""
    found: list[Any] = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def copy_model(model: Any) -> Any:
    """Return a model of its own with the same layers' names and weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def weight_of(constraint: Constraint) -> Array:
    """Return the weight that a constraint stands for."""
    parts = constraint.split()
    return array_of(constraint.compose(parts.trained, parts.held))
