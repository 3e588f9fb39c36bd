"""Train a Keras 3 model that ends in logits."""

import time
from collections.abc import Callable
from typing import Any, Final

import keras

from fleet_cloud.factory.data import Splits, to_real
from fleet_cloud.factory.recipe import Architecture, Training

BATCH_NORM_MOMENTUM: Final = 0.8
"""Small data sets have few steps an epoch: Keras' default of 0.99 would lag behind the weights."""

OnEpoch = Callable[[int, int, float, float, float], None]
"""(epoch, epochs, loss, validation accuracy, seconds left)"""


def train(splits: Splits, architecture: Architecture, training: Training, on_epoch: OnEpoch) -> Any:
    """Return the trained model (logits out); the weights of the best validation accuracy are kept.
    The same seed, data and machine give the same weights."""
    keras.utils.set_random_seed(training.seed)
    shape = splits.train.x.shape[1:]
    model = build_model(architecture, shape, len(splits.labels))
    model.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        to_real(splits.train.x, splits.preprocessing),
        splits.train.y,
        validation_data=(to_real(splits.validation.x, splits.preprocessing), splits.validation.y),
        epochs=training.epochs,
        batch_size=training.batch_size,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="max", patience=training.patience, restore_best_weights=True
            ),
            _progress(training.epochs, on_epoch),
        ],
    )
    return model


def build_model(architecture: Architecture, shape: tuple[int, ...], classes: int) -> Any:
    """Return an untrained model for samples of ``shape``; small enough for any Pi."""
    layers = keras.layers
    width = architecture.units
    inputs = keras.Input(shape)
    if architecture.kind == "mlp" or len(shape) == 1:
        x = layers.Flatten()(inputs) if len(shape) > 1 else inputs
        x = layers.Dense(4 * width, activation="relu")(x)
        x = layers.Dense(2 * width, activation="relu")(x)
    else:
        x = inputs
        for factor in (1, 2):
            x = layers.Conv2D(factor * width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
            x = layers.ReLU()(x)
            x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x) if min(shape[:2]) <= 16 else layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(4 * width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def with_softmax(model: Any) -> Any:
    """Return the model as it is released: probabilities out."""
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


def _progress(epochs: int, on_epoch: OnEpoch) -> Any:
    begin = time.monotonic()

    def end(epoch: int, logs: dict[str, float]) -> None:
        done = epoch + 1
        left = (time.monotonic() - begin) / done * (epochs - done)
        on_epoch(done, epochs, float(logs["loss"]), float(logs["val_accuracy"]), left)

    return keras.callbacks.LambdaCallback(on_epoch_end=end)
