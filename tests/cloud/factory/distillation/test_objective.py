"""What is minimised with a teacher, and that the teacher stays as it is."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.distillation.again import train_again
from fleet_cloud.factory.distillation.attention import attention_loss
from fleet_cloud.factory.distillation.hinton import soft_loss
from fleet_cloud.factory.distillation.objective import make_objective
from fleet_cloud.factory.events import BuildEvent, Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network, array_of
from fleet_cloud.factory.objective import Hard
from fleet_cloud.factory.recipe.passes import Distil, Train, Tune
from fleet_cloud.factory.tuning import tune
from tests.cloud.factory.small import CLASSES, make_lab, make_model, make_network, unlabelled

HOW = Tune(epochs=1, batch_size=32, learning_rate=0.01, distil=Distil(weight=0.5))


def taught_lab(lab: Lab | None = None) -> Lab:
    return replace(lab or make_lab(), teachers={"float": make_model(6, seed=2)})


def test_the_losses_are_weighed() -> None:
    lab, network = taught_lab(), make_network()
    how = Distil(weight=0.3, temperature=3, attention=2)
    objective = make_objective(how, network, lab)
    x, y = lab.real(lab.train.x[:8]), np.asarray(lab.train.y)[:8]
    names = ["depthwise", "conv"]
    ours, theirs = (
        keras.Model(one.input, [one.output, *(one.get_layer(name).output for name in names)])(
            x, training=False
        )
        for one in (network.model, lab.teachers["float"])
    )
    assert list(objective.taps) == names
    found = float(objective(x, y, ours[0], ours[1:]))
    hard = float(Hard()(x, y, ours[0], ()))
    soft = float(soft_loss(ours[0], theirs[0], 3))
    assert found == pytest.approx(
        0.7 * hard + 0.3 * soft + 2 * float(attention_loss(ours[1:], theirs[1:])), rel=1e-5
    )


def test_for_regression_the_soft_loss_is_the_squared_error_to_the_teacher() -> None:
    lab, network = replace(taught_lab(), task="regression"), make_network()
    objective = make_objective(Distil(weight=1), network, lab)
    x = lab.real(lab.train.x[:8])
    ours, theirs = (array_of(one(x, training=False)) for one in (network.model, lab.teachers["float"]))
    assert float(objective(x, None, ours, ())) == pytest.approx(np.square(ours - theirs).mean(), rel=1e-5)


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
    same = fine_tune(network, replace(lab, teachers={"float": network.model}), HOW)
    assert "attention" not in same.facts


def test_an_unknown_teacher_is_refused_with_the_known_names() -> None:
    with pytest.raises(BuildError, match="no teacher 'big'") as caught:
        make_objective(Distil(teacher="big"), make_network(), taught_lab())
    assert caught.value.code == "build.teacher"
    assert "float" in caught.value.hint


def test_a_teacher_of_other_classes_is_refused() -> None:
    model = make_model()
    other = keras.Model(model.input, keras.layers.Dense(CLASSES + 1)(model.get_layer("hidden").output))
    with pytest.raises(BuildError, match=r"its output is \(5,\), the network's \(4,\)") as caught:
        make_objective(Distil(), make_network(), replace(make_lab(), teachers={"float": other}))
    assert caught.value.code == "build.teacher"


def test_the_pass_trains_once_more() -> None:
    network, lab = make_network(), make_lab()
    outcome = train_again(Train(tune=Tune(epochs=2, batch_size=32, learning_rate=0.01)), network, lab)
    assert len(outcome.facts["history"]) == 2
    assert isinstance(outcome.network, Network)
    before, after = (array_of(one.model.get_layer("head").kernel) for one in (network, outcome.network))
    assert not np.array_equal(before, after)
