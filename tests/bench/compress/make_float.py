"""Train the float models once: ``python -m tests.bench.compress.make_float --data FOLDER [--model NAME]``.

ResNet8 starts from the MLPerf Tiny weights, which were trained on the original pixels, and learns those of
this set, which went through JPEG; MobileNetV2 starts from nothing. The epoch that is best on the validation
split is kept.
"""

import argparse
import math
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from tests.bench.compress.data import Cifar, Images, load_cifar
from tests.bench.compress.models import MODELS, RESNET8, FloatModel, write_weights

CACHE: Final = Path(".bench") / "compress" / "cifar10.npz"
SHIFT: Final = 4
"""Pixels that an image may be off its place in each direction."""

DECAY: Final = 1e-4
"""Of the squares of kernels, as in MLPerf Tiny's own training."""


class Augmented(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of images that are mirrored and shifted at random, another way in each epoch."""

    def __init__(self, images: Images, batch_size: int, seed: int) -> None:
        super().__init__()
        self._images, self._batch_size = images, batch_size
        self._random = np.random.default_rng(seed)
        self._order = self._random.permutation(len(images.y))

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return move(self._images.x[rows], self._random).astype(np.float32), self._images.y[rows]

    def on_epoch_end(self) -> None:
        self._order = self._random.permutation(self._order)


def move(x: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Return images each mirrored with even odds, and shifted; what is uncovered is black."""
    size = x.shape[1]
    padded = np.pad(x, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    moved = np.empty_like(x)
    places = random.integers(0, 2 * SHIFT + 1, (len(x), 2))
    for number, (top, left) in enumerate(places):
        moved[number] = padded[number, top : top + size, left : left + size]
    mirrored = random.random(len(x)) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    return moved


def make_float(one: FloatModel, cifar: Cifar, data: Path, epochs: int, learning_rate: float) -> float:
    """Train, write the best weights to its file after each epoch; return their top-1 on the test split."""
    keras.utils.set_random_seed(1)
    model = one.build()
    if one.start is not None:
        model.set_weights(keras.models.load_model(data / one.start, compile=False).get_weights())
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.regularizer = keras.regularizers.L2(DECAY)
    batches = Augmented(cifar.train, 128, seed=1)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    best = -1.0
    for epoch in range(epochs):
        model.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0)
        seen = top1(model, cifar.validation)
        if seen > best:
            best = seen
            write_weights(model.get_weights(), top1(model, cifar.test), one.file)
        print(f"epoch {epoch + 1} of {epochs}: validation {seen:.4f}, best {best:.4f}", flush=True)
    with np.load(one.file) as arrays:
        return float(arrays["accuracy"])


def top1(model: Any, images: Images) -> float:
    logits = model.predict(images.x.astype(np.float32), batch_size=256, verbose=0)
    return float((logits.argmax(axis=1) == images.y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--images", type=int)
    parser.add_argument("--model", choices=sorted(MODELS), default=RESNET8.name)
    given = parser.parse_args()
    cifar = load_cifar(given.data, CACHE).limit(given.images)
    found = make_float(MODELS[given.model], cifar, given.data, given.epochs, given.learning_rate)
    print(f"test {found:.4f}")


if __name__ == "__main__":
    main()
