"""The passes that remove filters and neurons, from settings to a smaller network and its facts."""

import json
from dataclasses import replace
from typing import Any

import keras
import msgspec
import numpy as np
import pytest
from keras import layers

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.architectures import build_model
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.lab import Part
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.operations import count_operations, count_parameters
from fleet_cloud.factory.passes import run_pass
from fleet_cloud.factory.pruning.filters import SCORES as FILTER_SCORES
from fleet_cloud.factory.pruning.filters import prune_filters
from fleet_cloud.factory.pruning.neurons import SCORES as NEURON_SCORES
from fleet_cloud.factory.pruning.neurons import prune_neurons
from fleet_cloud.factory.recipe import Architecture
from fleet_cloud.factory.recipe.passes import PruneFilters, PruneNeurons, Tune
from fleet_cloud.factory.report.document import PassReport
from tests.cloud.factory.pruning.networks import CLASSES, SIDE, make_lab, make_network, randomize
from tests.cloud.factory.report.reports import FILTERS_FACTS

UNTUNED = Tune(epochs=0)


@pytest.fixture(scope="module")
def network() -> Network:
    """A residual and a concatenated part, all with batch normalisation, and a model inside."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIDE, SIDE, 2))

    def block(x: Any, width: int) -> Any:
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))

    stem = block(inputs, 8)
    inner_in = keras.Input((SIDE, SIDE, 8))
    inner = keras.Model(inner_in, block(block(inner_in, 12), 8), name="inside")
    x = layers.Add()([stem, inner(stem)])
    x = layers.Concatenate()([x, block(stem, 16)])
    x = layers.Dense(16, activation="relu", name="hidden")(layers.GlobalAveragePooling2D()(x))
    return Network(keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x)))


@pytest.mark.parametrize("score", sorted(FILTER_SCORES))
def test_every_score_halves_the_operations(network: Network, score: Any) -> None:
    settings = PruneFilters(fraction=0.5, score=score, multiple=1, tune=UNTUNED)
    outcome = prune_filters(settings, network, make_lab())
    before, after = count_operations(network.model), count_operations(outcome.network.model)
    assert after / before == pytest.approx(0.5, abs=0.1)
    assert outcome.facts["operations"] == {"before": before, "after": after}
    assert outcome.facts["parameters"] == {
        "before": count_parameters(network.model),
        "after": count_parameters(outcome.network.model),
    }
    assert outcome.network.model.output_shape == (None, CLASSES)
    assert outcome.facts["left_alone"] == {"logits": "it gives the model's output"}


def test_what_is_left_makes_up_for_what_is_gone_in_every_round_unless_it_shall_not(network: Network) -> None:
    lab, errors = make_lab(), []
    x = lab.real(lab.validation.x)
    for wanted in (False, True):
        settings = PruneFilters(fraction=0.5, multiple=1, rounds=2, reconstruct=wanted, tune=UNTUNED)
        outcome = prune_filters(settings, network, lab)
        rounds = json.loads(json.dumps(outcome.facts["rounds"], allow_nan=False))
        assert [bool(one["reconstructed"]) for one in rounds] == [wanted] * 2
        errors.append(np.square(outcome.network.model(x) - network.model(x)).mean())
    assert errors[1] < 0.7 * errors[0]


def test_rounds_of_training_end_where_one_cut_would_and_learn_the_task(network: Network) -> None:
    settings = PruneFilters(
        fraction=0.6,
        multiple=4,
        scope="global",
        rounds=2,
        tune=Tune(epochs=3, learning_rate=0.01, batch_size=32),
    )
    lab = make_lab()
    outcome = run_pass(settings, network, lab)
    facts = outcome.facts
    first, second = facts["rounds"]
    operations = facts["operations"]
    assert operations["before"] > first["operations"] > second["operations"] == operations["after"]
    assert second["history"][-1]["score"] >= 0.9
    assert [one.epoch for one in PassReport(name="prune-filters", facts=dict(facts)).history] == [
        *range(1, 7)
    ]
    assert facts.keys() == FILTERS_FACTS.keys(), "the report's tests have what the pass says"
    assert first.keys() == FILTERS_FACTS["rounds"][0].keys()
    assert next(iter(facts["widths"].values())).keys() == FILTERS_FACTS["widths"]["conv2d"].keys()
    for width in facts["widths"].values():
        assert width["after"] == width["before"] or width["after"] % 4 == 0
        assert outcome.network.model.get_layer(width["layers"][0]).kernel.shape[-1] == width["after"]
    assert facts["filters"]["after"] == sum(width["after"] for width in facts["widths"].values())


def test_a_fraction_of_the_filters(network: Network) -> None:
    settings = PruneFilters(fraction=0.25, of="filters", multiple=1, tune=UNTUNED)
    facts = prune_filters(settings, network, make_lab()).facts
    assert facts["filters"] == {"before": 36, "after": 27}
    assert {width["before"]: width["after"] for width in facts["widths"].values()} == {8: 6, 12: 9, 16: 12}


def test_what_is_left_alone_is_said_and_nothing_to_remove_is_refused(network: Network) -> None:
    convolutions = tuple(
        layer.name
        for layer in prune_filters(PruneFilters(tune=UNTUNED), network, make_lab()).network.model.layers
        if isinstance(layer, layers.Conv2D)
    )
    facts = prune_filters(PruneFilters(skip=convolutions[:1], tune=UNTUNED), network, make_lab()).facts
    assert facts["left_alone"][convolutions[0]] == "the recipe skips it"
    with pytest.raises(BuildError, match="no filters can be removed") as caught:
        prune_filters(PruneFilters(skip=convolutions, tune=UNTUNED), network, make_lab())
    assert caught.value.code == "build.prune"
    with pytest.raises(BuildError, match="multiples of 64"):
        prune_filters(PruneFilters(multiple=64, tune=UNTUNED), network, make_lab())


def warnings_of(settings: Any, middle: Any) -> list[str]:
    inputs = keras.Input((SIDE, SIDE, 2))
    x = middle(layers.Conv2D(8, 3, name="first")(inputs))
    x = layers.Flatten()(layers.Conv2D(8, 3, name="second")(x))
    model = keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))
    said: list[BuildEvent] = []
    prune_filters(settings, Network(model), replace(make_lab(), say=said.append))
    return [one.message for one in said if isinstance(one, Warned)]


def test_layers_that_are_not_supported_are_told_once_unless_they_are_skipped() -> None:
    settings = PruneFilters(multiple=1, rounds=2, tune=UNTUNED)
    odd = layers.LayerNormalization(name="odd")
    why = "odd (LayerNormalization is not known to pruning)"
    assert warnings_of(settings, odd) == [f"prune-filters does not support, and left alone: {why}"]
    assert warnings_of(msgspec.structs.replace(settings, skip=("odd",)), odd) == []
    many = keras.Sequential([layers.LayerNormalization() for _ in range(7)])
    (told,) = warnings_of(settings, many)
    assert told.count("not known") == 5
    assert told.endswith("; and 2 more")


def test_an_ordinary_network_gives_no_warning(network: Network) -> None:
    said: list[BuildEvent] = []
    prune_filters(PruneFilters(tune=UNTUNED), network, replace(make_lab(), say=said.append))
    model = build_model(Architecture(kind="resnet", depth=8, units=16), (SIDE, SIDE, 2), CLASSES)
    prune_filters(PruneFilters(tune=UNTUNED), Network(model), replace(make_lab(), say=said.append))
    assert said == []


def test_groups_without_batch_normalization_are_left_alone_by_its_score() -> None:
    model = make_network([("plain", 8), ("separable", 8)])
    settings = PruneFilters(score="batch-norm", fraction=0.2, multiple=1, tune=UNTUNED)
    facts = prune_filters(settings, Network(model), make_lab()).facts
    assert facts["left_alone"]["stem"] == "no batch normalisation scales it"


@pytest.mark.parametrize("score", sorted(NEURON_SCORES))
def test_neurons_that_never_do_anything_go_first(score: Any) -> None:
    inputs = keras.Input((SIDE, SIDE, 2))
    x = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(CLASSES)(x)))
    hidden = model.get_layer("hidden")
    bias = np.full(16, 5.0)
    bias[[0, 3, 5, 9]] = -1000
    hidden.bias.assign(bias)
    outcome = prune_neurons(
        PruneNeurons(fraction=0.25, score=score, multiple=4, tune=UNTUNED), Network(model), make_lab()
    )
    pruned = outcome.network.model
    assert pruned.get_layer("hidden").units == 12
    assert pruned.get_layer("hidden").bias.numpy().min() == 5
    x = make_lab().real(make_lab().train.x)
    assert np.allclose(pruned(x), model(x), rtol=1e-5, atol=1e-4)
    assert outcome.facts["neurons"] == {"before": 16, "after": 12}
    assert outcome.facts["widths"]["hidden"] == {"layers": ["hidden"], "before": 16, "after": 12}


def test_where_nothing_can_be_counted_there_is_nothing_to_remove() -> None:
    """A network of one dense layer: no filters, and its neurons are the output."""
    inputs = keras.Input((SIDE, SIDE, 2))
    network = Network(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(inputs))))
    with pytest.raises(BuildError, match="no neurons can be removed"):
        prune_neurons(PruneNeurons(tune=UNTUNED), network, make_lab())
    for of in ("filters", "operations"):
        settings = msgspec.convert({"pass": "prune-filters", "of": of}, PruneFilters)
        with pytest.raises(BuildError, match="no filters can be removed"):
            prune_filters(settings, network, make_lab())


def test_neurons_are_judged_on_samples(network: Network) -> None:
    lab = make_lab()
    empty = replace(lab, train=Part(lab.train.x[:0], None))
    with pytest.raises(BuildError, match="prune-neurons needs samples") as caught:
        prune_neurons(PruneNeurons(tune=UNTUNED), network, empty)
    assert caught.value.code == "build.samples"
