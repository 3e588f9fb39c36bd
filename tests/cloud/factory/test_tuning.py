"""The one loop that trains: what it keeps, where it stops, and that it can be repeated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.augmentation import make_augmentation
from fleet_cloud.factory.constraints import Array, Parts, Tensor
from fleet_cloud.factory.events import BuildEvent, Epoch, Warned
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, array_of, weights_of
from fleet_cloud.factory.objective import Hard
from fleet_cloud.factory.pruning.masks import Mask
from fleet_cloud.factory.quantization.codebooks import Codebook
from fleet_cloud.factory.recipe.dataset import Augment
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.tuning import predict, score, tune
from tests.cloud.factory.small import CLASSES, SIZE, make_lab, make_network, unlabelled

HOW = Tune(epochs=2, batch_size=32, learning_rate=0.01, decay="none")


def linear(seed: int = 1, **dense: Any) -> Network:
    """The quickest network that can be trained."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 1))
    flat = keras.layers.Flatten(name="flatten")(inputs)
    return Network(keras.Model(inputs, keras.layers.Dense(CLASSES, name="head", **dense)(flat)))


def labels(part: Part) -> Array:
    assert part.y is not None
    return part.y


def values(network: Network) -> dict[str, Array]:
    return {path: array_of(weight) for path, weight in weights_of(network.model).items()}


def test_it_learns_and_leaves_what_it_was_given() -> None:
    lab, network = make_lab(), make_network()
    before = values(network)
    tuned = tune(network, lab, Tune(epochs=8, batch_size=16, learning_rate=0.01))
    assert tuned.best is not None
    assert tuned.best.score == max(one.score for one in tuned.history) >= 0.9
    assert score(tuned.network.model, lab.validation, lab) == tuned.best.score
    assert tuned.facts["best_epoch"] == tuned.best.epoch
    for path, value in values(network).items():
        np.testing.assert_array_equal(value, before[path])


def test_a_step_is_that_of_adam_on_the_mean_cross_entropy() -> None:
    """One batch, one step, computed by hand: Adam's first step is the sign of the gradient."""
    lab, network = make_lab(16), linear()
    before = values(network)
    tuned = tune(network, lab, Tune(epochs=1, batch_size=16, learning_rate=0.001, decay="none"))
    x = lab.real(lab.train.x).reshape(16, -1).astype(np.float64)
    logits = x @ before["head/kernel"] + before["head/bias"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.eye(CLASSES)[lab.train.y]
    gradient = x.T @ (p - y) / 16
    step = 0.001 * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1 - 0.999))
    np.testing.assert_allclose(values(tuned.network)["head/kernel"], before["head/kernel"] - step, atol=1e-6)
    assert tuned.history[0].loss == pytest.approx(-np.mean(np.sum(y * np.log(p), axis=1)), rel=1e-5)


def first_step(network: Network, path: str) -> Array:
    """Return by how much the first step of Adam moves a weight."""
    how = Tune(epochs=1, batch_size=16, learning_rate=0.001, decay="none")
    moved: Array = np.abs(values(tune(network, make_lab(16), how).network)[path] - values(network)[path])
    return moved


def test_what_was_scaled_takes_steps_of_its_own_size() -> None:
    network = linear()
    unit = np.array([[0.01, 1.0, 0.5, 0.25]], np.float32)[:, :CLASSES]
    scaled = replace(network, step_sizes={"head/kernel": unit})
    plain = first_step(network, "head/kernel")
    np.testing.assert_allclose(first_step(scaled, "head/kernel"), plain * unit, atol=1e-5)
    assert not tune(scaled, make_lab(16), HOW).network.constraints, "it keeps nothing"
    kernel = values(network)["head/kernel"]
    masked = scaled.constrain({"head/kernel": Mask(kernel, np.ones_like(kernel))})
    np.testing.assert_allclose(first_step(masked, "head/kernel"), plain * unit, atol=1e-5)


def test_entries_of_a_codebook_take_steps_of_the_size_of_their_weights() -> None:
    network = linear()
    kernel = values(network)["head/kernel"]
    rows = np.broadcast_to(np.arange(CLASSES), kernel.shape)  # a row for each channel
    book = Codebook(
        entries=kernel.mean(axis=0)[:, np.newaxis],
        free=np.ones((CLASSES, 1), np.float32),
        indices=rows.ravel().astype(np.int32),
        mask=np.ones_like(kernel),
        order=(0, 1),
    )
    shared = network.constrain({"head/kernel": book})
    unit = np.array([[0.01, 1.0, 0.5, 0.25]], np.float32)[:, :CLASSES]
    plain = first_step(shared, "head/kernel")
    scaled = first_step(replace(shared, step_sizes={"head/kernel": unit}), "head/kernel")
    np.testing.assert_allclose(scaled, plain * unit, atol=1e-5)


def noisy() -> Network:
    """With what draws random numbers by itself."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(keras.layers.Flatten(name="flatten")(x))
    return Network(keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(x)))


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    keras.utils.set_random_seed(1)
    lab, network = make_lab(), noisy()
    how = Augment(flip="horizontal", shift=0.1, contrast=0.1, noise=0.02)
    augment = make_augmentation(how, lab.train.x, lab.preprocessing, seed=5)
    assert augment is not None
    lab = replace(lab, augment=augment)
    first = values(tune(network, lab, HOW).network)
    augment(np.zeros((1, SIZE, SIZE, 1), np.float32), training=True)  # others draw in between
    np.random.default_rng().random()
    again, other = (values(tune(network, one, HOW).network) for one in (lab, replace(lab, seed=2)))
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not np.array_equal(first["head/kernel"], other["head/kernel"])


def test_frozen_layers_stay_and_so_does_what_constrains_them() -> None:
    network = make_network()
    for name in ("norm", "conv"):
        network.model.get_layer(name).trainable = False
    kernel = array_of(network.model.get_layer("conv").kernel)
    mask = Mask(kernel, (np.abs(kernel) > 0.05).astype(np.float32))
    network = network.constrain({"conv/kernel": mask})
    before, after = values(network), values(tune(network, make_lab(), HOW).network)
    changed = {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {"stem", "depthwise", "hidden", "head"}


def test_statistics_of_batch_norm_move() -> None:
    network = make_network()
    after = values(tune(network, make_lab(), HOW).network)
    assert not np.array_equal(values(network)["norm/moving_mean"], after["norm/moving_mean"])


def test_regularizers_of_the_model_count() -> None:
    """With a strong one the kernel falls to nothing, whatever the labels say."""
    network = linear(kernel_regularizer=keras.regularizers.L2(10.0))
    tuned = tune(network, make_lab(), Tune(epochs=20, batch_size=32, learning_rate=0.01, decay="none"))
    assert tuned.best is not None
    before, last = (np.abs(values(one)["head/kernel"]).mean() for one in (network, tuned.network))
    assert last < before / 2 or tuned.best.epoch < 10
    assert tuned.history[-1].loss == pytest.approx(np.log(CLASSES), abs=0.1), "of the labels alone"


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    """Validation labels that contradict the training: each epoch is worse than the first."""
    lab = make_lab()
    contrary = replace(lab, validation=Part(lab.train.x, (labels(lab.train) + 1) % CLASSES))
    how = Tune(epochs=9, batch_size=8, learning_rate=0.02, decay="none", patience=2)
    tuned = tune(linear(), contrary, how)
    assert tuned.best is not None
    assert len(tuned.history) == tuned.best.epoch + 2 < 9
    assert score(tuned.network.model, contrary.validation, contrary) == tuned.best.score
    assert tuned.best.score > tuned.history[-1].score or tuned.best.score == tuned.history[-1].score


@dataclass(frozen=True)
class Late:
    """Takes a whole kernel away, in the middle of the training."""

    step: int

    def due(self, _steps: int) -> Sequence[int]:
        return [self.step]

    def revise(self, step: int, _steps: int, parts: dict[str, Parts]) -> dict[str, tuple[Array, ...]]:
        assert step == self.step
        return {path: (np.zeros_like(one.held[0]),) for path, one in parts.items()}


@pytest.mark.parametrize(("step", "first_kept"), [(0, 1), (2, 1), (3, 2), (11, 4)])
def test_no_epoch_before_the_end_of_the_schedule_is_kept(step: int, first_kept: int) -> None:
    """Three steps an epoch. Without its kernel the network is worse: earlier epochs would be the best."""
    network = linear()
    kernel = values(network)["head/kernel"]
    network = network.constrain({"head/kernel": Mask(kernel, np.ones_like(kernel))})
    how = Tune(epochs=4, batch_size=32, learning_rate=0.02, patience=1)
    tuned = tune(network, make_lab(), how, schedule=Late(step))
    assert tuned.best is not None
    assert tuned.best.epoch >= first_kept
    assert len(tuned.history) >= first_kept, "patience counts from there"
    assert not values(tuned.network)["head/kernel"].any()


def test_a_loss_that_is_no_number_ends_it_at_once() -> None:
    lab = make_lab()
    x = lab.train.x.astype(np.float32)
    x[5] = np.nan
    broken = replace(lab, train=Part(x, lab.train.y))
    order = np.random.default_rng((lab.seed, 1)).permutation(len(x))
    step = int(np.flatnonzero(order == 5)[0]) // 32 + 1
    with pytest.raises(BuildError, match=rf"epoch 1, step {step} is no number") as caught:
        tune(linear(), broken, HOW)
    assert caught.value.code == "build.diverged"
    assert "learning_rate" in caught.value.hint


@dataclass(frozen=True)
class Steep:
    """A loss of 0 whose gradient is no number: that of a root at 0."""

    taps: Sequence[str] = ()
    needs_labels: bool = True

    def __call__(self, _x: Tensor, _y: Tensor, logits: Tensor, _tapped: Sequence[Tensor], /) -> Tensor:
        return keras.ops.mean(keras.ops.sqrt(0.0 * logits))


def test_a_network_that_the_last_step_broke_is_not_kept() -> None:
    """The loss is that before the step: only the outputs tell."""
    lab = make_lab(32)
    with pytest.raises(BuildError, match="after epoch 1 the outputs are no numbers") as caught:
        tune(linear(), lab, Tune(epochs=1, batch_size=32), Steep())
    assert caught.value.code == "build.diverged"


@dataclass(frozen=True)
class SmallMemory(Lab):
    """Has room for so many samples at once."""

    room: int = 0

    def real(self, x: Array) -> Any:
        if len(x) > self.room:
            raise MemoryError
        return super().real(x)


def small_memory(room: int, said: list[BuildEvent]) -> Lab:
    lab = make_lab()
    return SmallMemory(
        lab.train, lab.validation, lab.preprocessing, lab.labels, lab.seed, said.append, room=room
    )


def test_out_of_memory_the_batch_is_halved_once_and_said() -> None:
    said: list[BuildEvent] = []
    how = Tune(epochs=1, batch_size=16)
    found = tune(linear(), small_memory(32, said), how)
    (warning,) = [event.message for event in said if isinstance(event, Warned)]
    assert "batches of 8" in warning
    expected = tune(linear(), make_lab(), Tune(epochs=1, batch_size=8))
    assert found.history == expected.history, "as if half had been asked for"


def test_out_of_memory_again_is_an_error() -> None:
    with pytest.raises(BuildError, match="also with batches of 8") as caught:
        tune(linear(), small_memory(4, []), Tune(epochs=1, batch_size=16))
    assert caught.value.code == "build.memory"


@pytest.mark.parametrize("room", [1, 5, 32])
def test_out_of_memory_what_it_says_is_asked_in_smaller_batches(room: int) -> None:
    lab, model = small_memory(room, []), linear().model
    said = predict(model, lab.train, lab)
    np.testing.assert_allclose(said, predict(model, lab.train, make_lab()), atol=1e-5)
    assert len(said) == len(lab.train)


@pytest.mark.parametrize("trouble", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")])
def test_out_of_memory_for_a_single_sample_is_an_error(trouble: Exception) -> None:
    asked: list[int] = []

    def refuse(x: Tensor, training: bool) -> Tensor:
        asked.append(int(x.shape[0]))
        assert not training
        raise trouble

    lab = make_lab()
    with pytest.raises(type(trouble)):
        predict(refuse, lab.train, lab)
    assert asked[-1] == 1


def test_a_model_whose_layers_are_all_frozen_is_refused() -> None:
    network = linear()
    network.model.trainable = False
    with pytest.raises(BuildError, match="frozen") as caught:
        tune(network, make_lab(32), HOW)
    assert caught.value.code == "build.frozen"


def test_without_labels_only_what_needs_none_can_be_learnt() -> None:
    @dataclass(frozen=True)
    class Quiet(Hard):
        """As if a teacher always said 0."""

        needs_labels: bool = False

        def __call__(self, _x: Tensor, _y: Tensor, logits: Tensor, _tapped: Sequence[Tensor], /) -> Tensor:
            return keras.ops.mean(keras.ops.square(logits))

    lab = unlabelled(make_lab())
    with pytest.raises(BuildError) as caught:
        tune(linear(), lab, HOW)
    assert caught.value.code == "build.labels"
    quiet = tune(linear(), lab, HOW, Quiet())
    assert quiet.history[1].loss < quiet.history[0].loss
    with pytest.raises(BuildError) as caught:
        tune(linear(), replace(lab, validation=Part(lab.validation.x, None)), HOW, Quiet())
    assert caught.value.code == "build.labels"


def test_regression_is_trained_and_judged_by_the_squared_error() -> None:
    said: list[BuildEvent] = []
    lab = make_lab(say=said.append)
    train, part = (
        Part(one.x, np.eye(CLASSES, dtype=np.float32)[labels(one)]) for one in (lab.train, lab.validation)
    )
    lab = replace(lab, train=train, validation=part, task="regression")
    tuned = tune(linear(), lab, HOW)
    assert tuned.best is not None
    flat = lab.real(part.x).reshape(len(part), -1)
    weights = values(tuned.network)
    error = np.square(flat @ weights["head/kernel"] + weights["head/bias"] - labels(part)).mean()
    assert tuned.best.score == pytest.approx(-error, rel=1e-5)
    assert score(tuned.network.model, part, lab) == pytest.approx(-error, rel=1e-5)
    last = said[-1]
    assert isinstance(last, Epoch)
    assert (last.accuracy, last.error) == (None, -tuned.history[-1].score)


def test_each_epoch_is_told() -> None:
    said: list[BuildEvent] = []
    tuned = tune(linear(), make_lab(say=said.append), HOW)
    epochs = [event for event in said if isinstance(event, Epoch)]
    assert [(event.epoch, event.epochs) for event in epochs] == [(1, 2), (2, 2)]
    assert [event.accuracy for event in epochs] == [one.score for one in tuned.history]
    assert epochs[0].seconds_left > epochs[1].seconds_left == 0


def test_no_epochs_change_nothing() -> None:
    network = linear()
    tuned = tune(network, make_lab(), Tune(epochs=0))
    assert tuned.network is network
    assert tuned.facts == {}
