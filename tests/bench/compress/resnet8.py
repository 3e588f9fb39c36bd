"""The float ResNet8 that everything starts from, and its file.

``resnet8.npz`` holds its weights, float32, in the order of the layers (`Keras' get_weights`), which both
sides build alike; ``accuracy``: top-1 on the test split.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.architectures import build_model
from fleet_cloud.factory.recipe import Architecture
from fleet_shared.manifest import Preprocessing

FILE: Final = Path(__file__).with_name("resnet8.npz")
PRETRAINED: Final = Path("mlperf-tiny") / "pretrainedResnet.h5"
SHAPE: Final = (32, 32, 3)
CLASSES: Final = 10
PREPROCESSING: Final = Preprocessing(colour="rgb", scale=1.0)
"""As MLPerf Tiny feeds it: values of pixels as they are, 0 to 255."""

Array = NDArray[Any]


def build_resnet8(units: int = 16) -> Any:
    """Return the model, not trained, logits out. ``units``: filters of its first stage, 8 for a student."""
    return build_model(Architecture(kind="resnet", depth=8, units=units), SHAPE, CLASSES)


def load_resnet8(file: Path = FILE) -> Any:
    """Return the float model."""
    model = build_resnet8()
    model.set_weights(read_weights(file))
    return model


def read_weights(file: Path) -> list[Array]:
    with np.load(file) as arrays:
        return [arrays[f"weight_{number}"] for number in range(len(arrays.files) - 1)]


def write_weights(weights: list[Array], accuracy: float, file: Path) -> None:
    """Write weights as both sides read them."""
    named = {f"weight_{number}": weight.astype(np.float32) for number, weight in enumerate(weights)}
    np.savez_compressed(file, accuracy=np.float64(accuracy), **named)  # type: ignore[arg-type]
