"""Train a Keras 3 model that ends in logits."""

import time
from collections.abc import Callable
from typing import Any, Final

import keras
import tensorflow as tf

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.architectures import build_model, check_architecture
from fleet_cloud.factory.data import Splits
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_shared.pixels import to_real

THREADS: Final = 4
"""Sums are split over this many threads on every machine, so that they round alike."""

OnEpoch = Callable[[int, int, float, float, float], None]
"""(epoch, epochs, loss, validation accuracy, seconds left)"""


def train(splits: Splits, architecture: Architecture, training: Training, on_epoch: OnEpoch) -> Any:
    """Return the trained model (logits out); the weights of the best validation accuracy are kept.

    The same seed, data, libraries and kind of processor give the same weights. Raises `RecipeError`
    (``recipe.architecture``) when the architecture does not fit the samples, `BuildError`
    (``build.diverged``) when the loss is no number any more.
    """
    check_architecture(architecture, splits.train.x.shape[1:])
    _make_repeatable(training.seed)
    model = build_model(architecture, splits.train.x.shape[1:], len(splits.labels))
    model.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        to_real(splits.train.x, splits.preprocessing),
        splits.train.y,
        validation_data=(to_real(splits.validation.x, splits.preprocessing), splits.validation.y),
        epochs=training.epochs,
        batch_size=training.batch_size,
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="max", patience=training.patience, restore_best_weights=True
            ),
            _progress(training.epochs, on_epoch),
        ],
    )
    losses = history.history["loss"]
    if not all(loss == loss for loss in losses):  # NaN differs from itself  # noqa: PLR0124
        raise BuildError(
            f"the training diverged: the loss of epoch {len(losses)} is no number",
            hint="a smaller learning_rate helps; check the data for values that are no numbers",
            code="build.diverged",
        )
    return model


def with_softmax(model: Any) -> Any:
    """Return the model as it is released: probabilities out."""
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


def _make_repeatable(seed: int) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    if tf.config.threading.get_intra_op_parallelism_threads() != THREADS:
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def _progress(epochs: int, on_epoch: OnEpoch) -> Any:
    begin = time.monotonic()

    def end(epoch: int, logs: dict[str, float]) -> None:
        done = epoch + 1
        left = (time.monotonic() - begin) / done * (epochs - done)
        on_epoch(done, epochs, float(logs["loss"]), float(logs["val_accuracy"]), left)

    return keras.callbacks.LambdaCallback(on_epoch_end=end)
