"""Models of the user's own: read from a file, or made by a Python function of his.

What comes out is a functional model of layers (models inside are taken apart) that ends in logits: a final
softmax is detached, for losses and teachers want logits, and is put back at export. A single sigmoid becomes
two logits, 0 and its own, of which softmax makes the same probabilities.

A Python function is code: it is not run unless that is allowed, which only the owner of a machine can say;
`fleet_cloud.factory.code` tells why. Lambda layers are refused always: they are code in a file, and no pass
could make them anew. A layer class of the user's own, in his Python file, does what they do.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import keras
import numpy as np

from fleet_cloud.errors import BuildError, Invalid, RecipeError
from fleet_cloud.factory.graph import Config, flatten, rebuild, remake
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import layers_of
from fleet_cloud.factory.recipe.architecture import KERAS_SUFFIXES, Architecture

Head = Literal["softmax", "none"]

_MODULE: Final = "fleet_own_architecture"


@dataclass(frozen=True)
class OwnModel:
    """``head``: what was detached, ``softmax``, or ``none`` if the model ends in plain numbers."""

    model: Any
    head: Head


def load_own_model(
    architecture: Architecture, shape: tuple[int, ...], outputs: int, *, allow_code: bool = False
) -> OwnModel:
    """Return the model of an architecture of kind ``file`` or ``python``.

    ``shape``: of a sample, and ``outputs``: what a function is asked for. Raises `RecipeError`
    (``recipe.architecture``), `Invalid` (``model.file.unloadable``, ``model.code``).
    """
    path = Path(architecture.path or "")
    if architecture.kind == "file":
        return take_own_model(_load_keras(path), str(path))
    if not allow_code:
        raise Invalid(
            f"{path} is Python: it is not run unless that is allowed",
            hint="build on a machine of your own, and allow it there",
            code="model.code",
        )
    made = _call(_load_function(path, architecture.function or ""), shape, outputs, path)
    return take_own_model(made, str(path))


def take_own_model(model: Any, source: str) -> OwnModel:
    """Return a model as passes and losses take it. ``source``: what errors call it. Raises `RecipeError`
    (``recipe.architecture``), `Invalid` (``model.code``)."""
    return detach_head(_as_layers(model, source))


def run_own_code(architecture: Architecture, *, allow_code: bool) -> None:
    """Make the layers known that the file of an architecture of kind ``python`` registers, if it may be run:
    a network that was kept, and has such layers, can be read then. Raises as `load_own_model`."""
    if architecture.kind == "python" and allow_code:
        _load_function(Path(architecture.path or ""), architecture.function or "")


def is_keras_file(path: Path) -> bool:
    """Tell whether passes can work on the layers of a file; others are only converted
    (`fleet_cloud.factory.own_files`)."""
    return path.suffix.lower() in KERAS_SUFFIXES


def check_fits(own: OwnModel, lab: Lab) -> None:
    """Raise `RecipeError` (``recipe.architecture``) when a model and the samples do not belong together."""
    takes, gives = tuple(own.model.input.shape[1:]), int(own.model.output.shape[-1])
    shape = tuple(lab.train.x.shape[1:])
    if takes != shape:
        raise _refuse(
            f"the model takes samples of {takes}, and the data set has {shape}",
            "set dataset.image_size, or choose another model",
        )
    if lab.task == "regression":
        _check_values(own, gives, None if lab.train.y is None else int(lab.train.y.shape[1]))
    else:
        _check_classes(own, gives, None if lab.train.y is None else len(lab.labels))


def _check_values(own: OwnModel, gives: int, wanted: int | None) -> None:
    if own.head == "softmax":
        raise _refuse("the model ends in a softmax, and the task is regression", "task: classification")
    if wanted not in {None, gives}:
        raise _refuse(f"the model gives {gives} values, and the data set has {wanted}", "compare y")


def _check_classes(own: OwnModel, gives: int, wanted: int | None) -> None:
    activation = _find_activation(own.model.output._keras_history.operation)  # noqa: SLF001
    if activation not in {"", "linear"}:
        raise _refuse(
            f"the model ends in {activation}, and the task is classification",
            "end in logits or a softmax; task: regression takes the outputs as they are",
        )
    if wanted not in {None, gives}:
        raise _refuse(
            f"the model tells {gives} classes apart, and the data set has {wanted}",
            "both must have the same classes, in the same order (folders: by name)",
        )


def detach_head(model: Any) -> OwnModel:
    """Return the model without a final softmax or single sigmoid, layers and weights its own.

    Sigmoids of several classes at once stay: they are no choice among classes.
    """
    last = model.output._keras_history.operation  # noqa: SLF001  the only way
    match _find_activation(last):
        case "softmax":
            return OwnModel(_cut(model, last), "softmax")
        case "sigmoid" if model.output.shape[-1] == 1:
            return OwnModel(_split_in_two(_cut(model, last)), "softmax")
        case _:
            return OwnModel(model, "none")


def _find_activation(layer: Any) -> str:
    """Return the name of the activation that a layer ends in; empty when it has none."""
    if isinstance(layer, keras.layers.Softmax):
        axes = layer.axis if isinstance(layer.axis, (tuple, list)) else (layer.axis,)
        return "softmax" if set(axes) <= {-1, 1} else ""
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))


def _cut(model: Any, last: Any) -> Any:
    """Return the model without ``last``, or without the activation inside of it."""
    if isinstance(last, (keras.layers.Softmax, keras.layers.Activation)):
        return rebuild(keras.Model(model.input, last.input, name=model.name))

    def make(layer: Any, config: Config) -> Any:
        return remake(layer, {**config, "activation": "linear"} if layer is last else config)

    return rebuild(model, make)


def _split_in_two(model: Any) -> Any:
    """Return the model with the logits (0, z) for its one, z: softmax makes 1 - sigmoid(z) and sigmoid(z)."""
    last = model.output._keras_history.operation  # noqa: SLF001
    if not isinstance(last, keras.layers.Dense):
        raise _refuse(
            f"the model ends in one sigmoid over layer {last.name!r}, which is no Dense layer",
            "end in two classes and a softmax",
        )

    def make(layer: Any, config: Config) -> Any:
        return remake(layer, {**config, "units": 2} if layer is last else config)

    def weigh(layer: Any) -> list[Any]:
        weights = list(layer.get_weights())
        if layer is not last:
            return weights
        return [np.concatenate([np.zeros_like(weight), weight], axis=-1) for weight in weights]

    return rebuild(model, make, weigh)


def _load_keras(path: Path) -> Any:
    """``compile=False``: what files from Keras 2 say of their optimizer means nothing to Keras 3."""
    if not is_keras_file(path):
        raise _refuse(
            f"{path} has no layers that passes could work on: a SavedModel or .tflite is only converted",
            "save the model as .keras; else passes may be float16, dynamic-range, int8 or int16x8 alone",
        )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:
        text = str(exc)
        if "safe_mode" in text or "unsafe" in text:
            raise _refuse_lambda(str(path)) from exc
        raise Invalid(
            f"{path} cannot be loaded: {text.partition(chr(10))[0][:300]}",
            hint="a Keras model, saved whole; with layers of your own: kind: python, and load it there",
            code="model.file.unloadable",
        ) from exc


def _as_layers(model: Any, source: str) -> Any:
    """Return a model as layers with one input of a known shape and one output (n, outputs)."""
    if not isinstance(model, keras.Model):
        raise _refuse(f"{source} gives {type(model).__name__}, no Keras model", "return keras.Model(...)")
    if any(isinstance(layer, keras.layers.Lambda) for layer in layers_of(model)):
        raise _refuse_lambda(source)
    try:
        plain = flatten(model)
    except BuildError as exc:
        raise _refuse(f"{source}: {exc.message}", exc.hint) from exc
    if len(plain.inputs) != 1 or len(plain.outputs) != 1:
        raise _refuse(
            f"{source} has {len(plain.inputs)} inputs and {len(plain.outputs)} outputs",
            "one of each is needed",
        )
    takes, gives = plain.inputs[0].shape[1:], plain.outputs[0].shape
    if None in takes or not takes:
        raise _refuse(f"{source} takes samples of any size, {takes}", "save it with an input of fixed size")
    if len(gives) != 2 or gives[-1] is None:
        raise _refuse(
            f"{source} gives {gives}, expected (n, classes) or (n, values)", "add a last Dense layer"
        )
    # A model whose input was given in a list asks for a list for ever.
    return rebuild(keras.Model(plain.inputs[0], plain.outputs[0], name=plain.name))


def _load_function(path: Path, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise _refuse(f"{path} is no Python file", "its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickles look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise _refuse(f"{path} ends with {type(exc).__name__}: {exc}", "mend it") from exc
    function = getattr(module, name, None)
    if not callable(function):
        raise _refuse(f"{path} has no function {name!r}", "def NAME(shape, outputs): return a Keras model")
    return function  # type: ignore[no-any-return]


def _call(function: Callable[..., Any], shape: tuple[int, ...], outputs: int, path: Path) -> Any:
    try:
        return function(shape, outputs)
    except Exception as exc:
        raise _refuse(
            f"{path}: {getattr(function, '__name__', 'the function')}({shape}, {outputs}) ends with "
            f"{type(exc).__name__}: {exc}",
            "it takes the shape of a sample and the number of outputs",
        ) from exc


def _refuse(message: str, hint: str) -> RecipeError:
    return RecipeError(message, hint=hint, code="recipe.architecture")


def _refuse_lambda(source: str) -> Invalid:
    return Invalid(
        f"{source} holds code, such as a Lambda layer, which is never run here",
        hint="write a layer class in its place: kind: python, with a function that makes the model",
        code="model.code",
    )
