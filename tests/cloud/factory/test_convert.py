"""A file computes what the network does when it infers."""

import keras
import numpy as np
import pytest

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.network import Network, array_of

layers = keras.layers


@pytest.mark.parametrize("layer", [layers.Resizing(6, 6), layers.CenterCrop(6, 6)], ids=["resize", "crop"])
def test_layers_that_train_unless_told_otherwise_do_not_train_in_the_file(layer: keras.layers.Layer) -> None:
    """Keras calls these with ``training=True`` by default, and all layers after them as well."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3)(layer(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Dropout(0.5)(x))))
    model.get_layer("norm").moving_mean.assign([1.0, -2.0, 3.0, 0.5])
    given = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    file = LiteModel(convert(Network(model), None))
    answers = np.concatenate([file.run([one[np.newaxis]])[0] for one in given])
    np.testing.assert_allclose(answers, array_of(model(given, training=False)), atol=1e-4)
