"""From the settings of an architecture to a Keras model."""

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import keras
import numpy as np

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.architectures.ds_cnn import build_ds_cnn
from fleet_cloud.factory.architectures.mlp import build_mlp
from fleet_cloud.factory.architectures.mobilenet_v2 import build_mobilenet_v2
from fleet_cloud.factory.architectures.resnet import build_resnet
from fleet_cloud.factory.architectures.small_cnn import build_small_cnn
from fleet_cloud.factory.recipe.architecture import DEFAULTS, Architecture

_BUILDERS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "small-cnn": build_small_cnn,
        "mlp": build_mlp,
        "ds-cnn": build_ds_cnn,
        "resnet": build_resnet,
        "mobilenet-v2": build_mobilenet_v2,
    }
)

SIDE_MIN: Final[Mapping[str, int]] = MappingProxyType(
    {"small-cnn": 4, "ds-cnn": 4, "resnet": 4, "mobilenet-v2": 32}
)
"""Of an image, in pixels: what is left after every halving of a side is at least one."""


def check_architecture(architecture: Architecture, shape: tuple[int, ...]) -> None:
    """Raise `RecipeError` (``recipe.architecture``) when samples of ``shape`` do not fit."""
    least = SIDE_MIN.get(architecture.kind)
    if least is not None and (len(shape) != 3 or min(shape[:2]) < least):
        raise RecipeError(
            f"architecture {architecture.kind} takes images of at least {least}x{least}, "
            f"and the samples are {shape}",
            hint="choose kind: mlp" if len(shape) != 3 else "choose another kind, or a larger image_size",
            code="recipe.architecture",
        )


def build_model(architecture: Architecture, shape: tuple[int, ...], outputs: int) -> Any:
    """Return a model for samples of ``shape``; not trained, unless ``weights`` were given.

    Models of the user's own are not built but loaded: `fleet_cloud.factory.own_models`.
    """
    inputs = keras.Input(shape, name="input")
    settings = {
        key: architecture.get(key) for key in DEFAULTS[architecture.kind] if key not in {"weights", "path"}
    }
    outputs_of = _BUILDERS[architecture.kind](inputs, outputs, **settings)
    model = keras.Model(inputs, outputs_of, name=architecture.kind.replace("-", "_"))
    if architecture.weights is not None:
        _load_weights(model, architecture.weights)
    return model


def _load_weights(model: Any, path: str) -> None:
    """Take the weights of a file; the last layer's need not fit, for its classes may be others."""
    kernels = {layer.name: layer.get_weights()[0] for layer in model.layers[:-1] if _has_kernel(layer)}
    legacy = {"by_name": True} if path.endswith(".h5") and not path.endswith(".weights.h5") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what does not fit: it is looked at below
            model.load_weights(path, skip_mismatch=True, **legacy)
    except (OSError, ValueError, KeyError) as exc:
        why = str(exc).partition("\n")[0]
        raise _refuse(f"{path} cannot be read: {why}") from exc
    for name, kernel in kernels.items():
        if np.array_equal(model.get_layer(name).get_weights()[0], kernel):
            raise _refuse(f"{path} has no weights for layer {name!r} of {kernel.shape}")


def _has_kernel(layer: Any) -> bool:
    return bool(layer.weights) and len(layer.weights[0].shape) > 1


def _refuse(message: str) -> RecipeError:
    return RecipeError(
        f"architecture.weights: {message}",
        hint="a .weights.h5 or .h5 file that was saved from the same architecture and width",
        code="recipe.architecture",
    )
