"""The pipeline: what is computed, what is taken from the cache, and that both give the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest

from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.events import BuildEvent, Epoch, StepEnded
from fleet_cloud.factory.keeping import CacheKeeper, Keeper, NoKeeper
from fleet_cloud.factory.keys import make_pass_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pipeline import Made, Pipeline, Place
from fleet_cloud.factory.recipe.passes import Cluster, Distil, Int8, PruneWeights, Settings, Train, Tune
from fleet_cloud.factory.tuning import tune
from tests.cloud.factory.small import make_lab, make_network

ONCE = Tune(epochs=1, batch_size=32)
PRUNE = PruneWeights(tune=ONCE)
PRUNE_AT_ONCE = PruneWeights(sparsity=0.5, tune=Tune(epochs=0))
CLUSTER = Cluster(entries=8, tune=ONCE)


def train(lab: Lab) -> Outcome:
    tuned = tune(make_network(), lab, ONCE)
    return Outcome(tuned.network, tuned.facts)


class Stage:
    """A pipeline with what it says, and a float network to begin with."""

    def __init__(self, keeper: Keeper, samples: int = 32) -> None:
        self.events: list[BuildEvent] = []
        self.pipeline = Pipeline(make_lab(samples, say=self.events.append), "quarters", keeper)
        self.base = self.pipeline.begin(Place("float"), "f" * 64, train)
        self.pipeline.add_teacher("float", self.base.key, lambda: self.base)

    def run(self, *passes: Settings) -> Made:
        return self.pipeline.run("variant", self.base, passes)

    @property
    def ended(self) -> list[tuple[str, str, bool]]:
        return [(one.subject, one.step, one.cached) for one in self.events if isinstance(one, StepEnded)]

    @property
    def trained(self) -> list[tuple[str, str]]:
        """Which step each epoch was of."""
        return [(one.subject, one.step) for one in self.events if isinstance(one, Epoch)]


@pytest.fixture
def keeper(tmp_path: Path) -> CacheKeeper:
    return CacheKeeper(Cache(tmp_path, pytest.fail))


def assert_same_weights(one: Network, other: Network) -> None:
    pairs = zip(one.model.weights, other.model.weights, strict=True)
    for first, second in pairs:
        assert first.path == second.path
        np.testing.assert_array_equal(array_of(first), array_of(second), strict=True)


def test_what_follows_the_cache_is_what_an_undisturbed_build_gives(keeper: CacheKeeper) -> None:
    undisturbed = Stage(NoKeeper())
    whole = undisturbed.run(PRUNE, CLUSTER)
    Stage(keeper).run(PRUNE)  # a build that ended after its first pass
    resumed = Stage(keeper)
    made = resumed.run(PRUNE, CLUSTER)
    assert resumed.ended == [
        ("float", "training", True),
        ("variant", "prune-weights", True),
        ("variant", "cluster", False),
    ]
    assert resumed.trained == [("variant", "cluster")]
    assert made.key == whole.key
    assert_same_weights(made.network, whole.network)
    assert [step.facts for step in made.steps] == [step.facts for step in whole.steps]
    assert [step.score for step in made.steps] == [step.score for step in whole.steps]


def test_a_changed_last_step_trains_nothing_before_it(keeper: CacheKeeper) -> None:
    first = Stage(keeper)
    first.run(PRUNE, CLUSTER)
    assert len(first.trained) == 3
    second = Stage(keeper)
    second.run(PRUNE, Cluster(entries=4, tune=ONCE))
    assert second.trained == [("variant", "cluster")]


def test_variants_share_what_they_have_in_common(keeper: CacheKeeper) -> None:
    stage = Stage(keeper)
    stage.run(PRUNE, Int8())
    stage.run(PRUNE, CLUSTER)
    assert [cached for _, step, cached in stage.ended if step == "prune-weights"] == [False, True]


def test_an_entry_that_keras_cannot_read_is_made_anew(tmp_path: Path) -> None:
    warnings: list[str] = []
    cache = Cache(tmp_path, warnings.append)
    made = Stage(CacheKeeper(cache)).run(Int8())
    files = cache.load(made.key)
    assert files is not None
    cache.refuse(made.key, "to be replaced")
    cache.keep(made.key, {**files, "model.keras": b"no model"})
    warnings.clear()
    again = Stage(CacheKeeper(cache)).run(Int8())
    assert len(warnings) == 1
    assert "is made anew" in warnings[0]
    assert_same_weights(again.network, made.network)


class Doubled(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own, which a file can only name."""

    def call(self, x: Any) -> Any:
        return 2 * x


def test_a_network_that_no_file_can_hold_goes_on_and_is_not_kept(tmp_path: Path) -> None:
    warnings: list[str] = []
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(Doubled()(inputs))))
    keeper = CacheKeeper(Cache(tmp_path, pytest.fail), warnings.append)
    pipeline = Pipeline(make_lab(16), "quarters", keeper)
    made = pipeline.run("variant", Made(Network(model), "own"), [Int8()])
    assert made.network.precision.kind == "int8"
    (warning,) = warnings
    assert warning.startswith("quarters: variant, int8: its result cannot be kept")
    assert keeper.load(made.key) is None


def test_a_teacher_is_made_when_a_pass_needs_it_and_never_for_one_that_is_there(keeper: CacheKeeper) -> None:
    taught = Train(tune=msgspec.structs.replace(ONCE, distil=Distil(teacher="big")))

    def run() -> Stage:
        stage = Stage(keeper)
        key = "b" * 64
        stage.pipeline.add_teacher("big", key, lambda: stage.pipeline.begin(Place("teacher big"), key, train))
        stage.run(PRUNE)
        assert ("teacher big", "training", False) not in stage.ended
        stage.run(taught)
        return stage

    assert run().ended[-2:] == [("teacher big", "training", False), ("variant", "train", False)]
    assert [subject for subject, _, _ in run().ended] == ["float", "variant", "variant"]


def test_how_a_teacher_came_about_changes_nothing() -> None:
    """A step begins from the same random numbers, whether a teacher was trained just before it or not."""
    taught = Train(tune=msgspec.structs.replace(ONCE, distil=Distil(teacher="big")))
    place, key = Place("teacher big"), "b" * 64

    def learn(there: bool) -> Network:
        stage = Stage(NoKeeper())
        teacher = stage.pipeline.begin(place, key, train) if there else None
        stage.pipeline.add_teacher("big", key, lambda: teacher or stage.pipeline.begin(place, key, train))
        return stage.run(taught).network

    assert_same_weights(learn(there=True), learn(there=False))


def test_events_of_a_pass_say_of_which_variant_it_is(keeper: CacheKeeper) -> None:
    stage = Stage(keeper)
    stage.run(PRUNE)
    assert stage.trained == [("float", "training"), ("variant", "prune-weights")]


def test_without_labels_there_is_no_score(tmp_path: Path) -> None:
    stage = Stage(NoKeeper())
    lab = make_lab(32)
    blind = Pipeline(replace(lab, validation=replace(lab.validation, y=None)), "quarters")
    made = blind.run("variant", stage.base, [PRUNE_AT_ONCE])
    assert made.steps[0].score is None
    assert stage.run(PRUNE_AT_ONCE).steps[0].score is not None


def test_a_number_format_that_only_the_file_has_is_not_scored_as_if_it_cost_nothing() -> None:
    stage = Stage(NoKeeper())
    made = stage.run(PRUNE_AT_ONCE, Int8())
    assert [step.score is None for step in made.steps] == [False, True]
    rounded = stage.run(Int8(aware=True, tune=ONCE))
    assert rounded.steps[0].score is not None


def test_a_key_tells_apart_all_that_goes_in() -> None:
    keys = {
        make_pass_key("a", PRUNE),
        make_pass_key("b", PRUNE),
        make_pass_key("a", PruneWeights(sparsity=0.6, tune=ONCE)),
        make_pass_key("a", Int8()),
        make_pass_key("a", PRUNE, "teacher"),
        make_pass_key("a", PRUNE, None, 0.9),
    }
    assert len(keys) == 6
    assert make_pass_key("a", PruneWeights(tune=ONCE)) == make_pass_key("a", PRUNE)
