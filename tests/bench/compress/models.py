"""The float models that everything starts from, and their files.

A file, ``NAME.npz``, holds weights, float32, in the order of the layers (Keras' `get_weights`), which both
sides build alike; ``accuracy``: top-1 on the test split.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.architectures import build_model
from fleet_cloud.factory.recipe import Architecture
from fleet_shared.manifest import Preprocessing

SHAPE: Final = (32, 32, 3)
CLASSES: Final = 10
PREPROCESSING: Final = Preprocessing(colour="rgb", scale=1.0)
"""As MLPerf Tiny feeds its ResNet8: values of pixels as they are, 0 to 255."""

Array = NDArray[Any]


@dataclass(frozen=True)
class FloatModel:
    """``start``: where below the data folder a file lies from which the training begins, if there is one."""

    name: str
    architecture: Architecture
    start: Path | None = None

    @property
    def file(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.npz")

    def build(self) -> Any:
        """Return the model, not trained, logits out."""
        return build_model(self.architecture, SHAPE, CLASSES)

    def load(self) -> Any:
        model = self.build()
        model.set_weights(read_weights(self.file))
        return model


RESNET8: Final = FloatModel(
    "resnet8",
    Architecture(kind="resnet", depth=8, units=16),
    Path("mlperf-tiny") / "pretrainedResnet.h5",
)
STUDENT: Final = FloatModel("resnet8-half", Architecture(kind="resnet", depth=8, units=8))
"""It has no file: it learns from nothing."""

MOBILENET: Final = FloatModel("mobilenetv2", Architecture(kind="mobilenet-v2", width=0.25))
MODELS: Final = {model.name: model for model in (RESNET8, MOBILENET)}
"""Those that have a file."""


def read_weights(file: Path) -> list[Array]:
    with np.load(file) as arrays:
        return [arrays[f"weight_{number}"] for number in range(len(arrays.files) - 1)]


def write_weights(weights: list[Array], accuracy: float, file: Path) -> None:
    """Write weights as both sides read them."""
    named = {f"weight_{number}": weight.astype(np.float32) for number, weight in enumerate(weights)}
    np.savez_compressed(file, accuracy=np.float64(accuracy), **named)  # type: ignore[arg-type]
