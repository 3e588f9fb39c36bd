"""What a file computes and holds, against sums written by hand, and against its network."""

from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.evaluation.counting import Counts, count_file
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.operations import count_operations, count_parameters
from tests.cloud.factory.edited_model import edit
from tests.cloud.factory.small import make_lab
from tests.kit.tiny_model import Graph, make_dynamic_model, make_sum_and_product, make_tiny_model

Op, Options = schema.BuiltinOperator, schema.BuiltinOptions


def test_a_dense_layer_costs_its_kernel_in_any_type() -> None:
    for content in (make_tiny_model(), make_tiny_model(int8=True), make_dynamic_model()):
        assert count_file(content) == Counts(parameters=32, operations=32)
    assert count_file(make_sum_and_product((1, 3))) == Counts(parameters=0, operations=0)


def test_a_product_of_matrices_costs_what_its_sum_says() -> None:
    for turned, first in ((False, (1, 5, 6)), (True, (1, 6, 5))):
        graph, options = Graph(), schema.BatchMatMulOptionsT()
        options.adjX = turned
        a, b, c = (
            graph.tensor(name, shape)
            for name, shape in zip("abc", (first, (1, 6, 7), (1, 5, 7)), strict=True)
        )
        graph.operator(Op.BATCH_MATMUL, [a, b], [c], Options.BatchMatMulOptions, options)
        assert count_file(graph.finish([a, b], [c])) == Counts(parameters=0, operations=5 * 6 * 7)


def make_network() -> Network:
    """Each kind of kernel that a Keras network brings; no batch norm, which the converter folds, and no two
    equal constants, which it keeps once."""

    def settings(seed: int) -> dict[str, Any]:
        draw = keras.initializers.RandomNormal(seed=seed)
        return {"kernel_initializer": draw, "bias_initializer": draw}

    draw = keras.initializers.RandomNormal(seed=2)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu", **settings(1))(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, depthwise_initializer=draw, bias_initializer=draw)(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, **settings(3))(x)
    x = layers.Dense(4, **settings(4))(layers.Flatten()(x))
    return Network(keras.Model(inputs, x))


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_file_costs_what_its_network_costs(kind: Any) -> None:
    network = make_network()
    content = convert(Network(network.model, precision=Precision(kind)), make_lab(16))
    wanted = Counts(count_parameters(network.model), count_operations(network.model))
    assert count_file(content) == wanted


def test_what_cannot_be_counted_is_unknown_and_not_guessed() -> None:
    def recur(model: Any) -> None:
        model.operatorCodes[0].builtinCode = Op.UNIDIRECTIONAL_SEQUENCE_LSTM

    def leave_open(model: Any) -> None:
        model.subgraphs[0].tensors[2].shapeSignature = np.array([1, -1], dtype=np.int32)

    for change in (recur, leave_open):
        found = count_file(edit(make_tiny_model(), change))
        assert (found.parameters, found.operations) == (32, None)
    with pytest.raises(Invalid) as caught:
        count_file(b"\0\0\0\0TFL3" + b"\xff" * 100)
    assert caught.value.code == "model.file.invalid"
