"""Passes that learn from a teacher while they tune."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import array_of
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.recipe.passes import Distil, PruneWeights, Tune
from fleet_cloud.factory.tuning import tune
from tests.cloud.factory.small import make_lab, make_model, make_network, unlabelled

HOW = Tune(epochs=1, batch_size=32, learning_rate=0.01, distil=Distil(weight=0.5))


def taught_lab() -> Lab:
    return replace(make_lab(), teachers={"float": make_model(6, seed=2)})


def test_without_samples_nobody_learns_not_even_from_a_teacher() -> None:
    lab = taught_lab()
    nothing = Part(lab.train.x[:0], None)
    empty = replace(lab, train=nothing, validation=nothing)
    for distil in (None, Distil(weight=1)):
        with pytest.raises(BuildError) as caught:
            fine_tune(make_network(), empty, msgspec.structs.replace(HOW, distil=distil))
        assert caught.value.code == "build.samples"
    assert fine_tune(make_network(), empty, Tune(epochs=0)).best is None


def test_the_teacher_stays_as_it_is() -> None:
    lab = taught_lab()
    before = lab.teachers["float"].get_weights()
    tuned = fine_tune(make_network(), lab, HOW)
    assert tuned.facts["teacher"] == "float"
    for one, other in zip(before, lab.teachers["float"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_student_becomes_like_its_teacher_without_a_single_label() -> None:
    """Also judged by the teacher, and told so."""
    said: list[BuildEvent] = []
    lab = make_lab(say=said.append)
    teacher = tune(make_network(6, 2), lab, Tune(epochs=6, batch_size=16, learning_rate=0.01)).network.model
    blind = replace(unlabelled(lab), validation=Part(lab.validation.x, None), teachers={"good": teacher})
    how = Tune(
        epochs=6, batch_size=16, learning_rate=0.01, distil=Distil(teacher="good", weight=1, temperature=2)
    )
    tuned = fine_tune(make_network(), blind, how)
    student = array_of(tuned.network.model(lab.real(lab.validation.x), training=False)).argmax(axis=1)
    expected = array_of(teacher(lab.real(lab.validation.x), training=False)).argmax(axis=1)
    agreement = float(np.mean(student == expected))
    assert agreement >= 0.8
    assert tuned.best is not None
    assert tuned.best.score == agreement
    assert any("'good'" in event.message for event in said if isinstance(event, Warned))


def test_attention_is_kept_only_if_it_helped() -> None:
    lab, network = taught_lab(), make_network()
    how = Distil(weight=0.5, attention=10)
    tuned = fine_tune(network, lab, Tune(epochs=2, batch_size=32, learning_rate=0.01, distil=how))
    facts = tuned.facts["attention"]
    assert facts["layers"] == ["depthwise", "conv"]
    assert facts["kept"] == (facts["score"] > facts["score_without"])
    assert tuned.best is not None
    assert tuned.best.score == max(facts["score"], facts["score_without"])


def test_a_pass_learns_from_a_teacher_while_it_prunes() -> None:
    outcome = prune_weights(PruneWeights(sparsity=0.5, tune=HOW), make_network(), taught_lab())
    assert outcome.facts["teacher"] == "float"
    assert "attention" not in outcome.facts
    kernel = array_of(outcome.network.model.get_layer("conv").kernel)
    assert np.sum(kernel == 0) == kernel.size // 2
