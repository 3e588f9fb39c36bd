"""What is minimised with a teacher."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.distillation.attention import attention_loss
from fleet_cloud.factory.distillation.hinton import soft_loss
from fleet_cloud.factory.distillation.objective import make_objective
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import array_of
from fleet_cloud.factory.objective import Hard
from fleet_cloud.factory.recipe.passes import Distil
from tests.cloud.factory.small import CLASSES, make_lab, make_model, make_network


def taught_lab() -> Lab:
    return replace(make_lab(), teachers={"float": make_model(6, seed=2)})


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
