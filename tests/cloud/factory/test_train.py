"""The first training: as a recipe asks for it, and the same again."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fleet_cloud.factory.keras_file import write_keras
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.recipe import Architecture, Training
from fleet_cloud.factory.train import as_tune, train
from tests.cloud.factory.small import make_lab, make_model

SMALL = Architecture(kind="mlp", units=4)


def test_a_training_is_one_without_decay_and_with_patience() -> None:
    how = as_tune(Training(epochs=7, batch_size=5, learning_rate=0.25, patience=3))
    assert (how.epochs, how.batch_size, how.learning_rate, how.patience) == (7, 5, 0.25, 3)
    assert (how.decay, how.distil) == ("none", None)


def test_the_seed_of_the_training_decides_and_not_that_of_the_splits() -> None:
    """A teacher may have a seed of its own."""

    def weights(lab: Lab, seed: int) -> list[np.ndarray]:
        found = train(SMALL, Training(epochs=1, seed=seed), lab)
        assert len(found.facts["history"]) == 1
        return list(found.network.model.get_weights())

    first, again, other = weights(make_lab(), 3), weights(make_lab(seed=2), 3), weights(make_lab(), 4)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_without_labels_a_model_of_ones_own_stays_as_it_is(tmp_path: Path) -> None:
    model = make_model()
    (tmp_path / "own.keras").write_bytes(write_keras(model))
    lab = make_lab()
    blind = replace(lab, train=Part(lab.train.x, None), validation=Part(lab.validation.x, None))
    own = Architecture(kind="file", path=str(tmp_path / "own.keras"))
    outcome = train(own, Training(), blind)
    for before, after in zip(model.get_weights(), outcome.network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert outcome.facts == {}
