"""The pass that does nothing but train."""

import numpy as np

from fleet_cloud.factory.distillation.again import train_again
from fleet_cloud.factory.network import array_of
from fleet_cloud.factory.recipe.passes import Train, Tune
from tests.cloud.factory.small import make_lab, make_network


def test_the_pass_trains_once_more() -> None:
    network, lab = make_network(), make_lab()
    outcome = train_again(Train(tune=Tune(epochs=2, batch_size=32, learning_rate=0.01)), network, lab)
    assert len(outcome.facts["history"]) == 2
    before, after = (array_of(one.model.get_layer("head").kernel) for one in (network, outcome.network))
    assert not np.array_equal(before, after)
