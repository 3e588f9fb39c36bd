"""The passes of precision: what the file holds, how far it is from float, and what needs samples."""

import operator
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.inspect import inspect_file
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.passes import run_pass
from fleet_cloud.factory.quantization.aware import make_aware, rounded_of
from fleet_cloud.factory.quantization.sensitivity import explain_int8, measure_sensitivity
from fleet_cloud.factory.quantization.targets import check_target, fit_target
from fleet_cloud.factory.recipe.passes import DynamicRange, Float16, Int8, Int16x8, PassSettings, Tune
from fleet_cloud.factory.report.document import PassReport
from fleet_cloud.factory.tuning import score
from tests.cloud.factory.small import make_lab, make_network

Array = NDArray[Any]

PASSES: dict[str, tuple[PassSettings, str, float]] = {
    "fp16": (Float16(), "fp16", 0.002),
    "dynamic": (DynamicRange(), "dynamic", 0.05),
    "int8": (Int8(calibration_samples=32), "int8", 0.05),
    "int16x8": (Int16x8(calibration_samples=32), "int16x8", 0.05),
}


def probabilities(content: bytes, lab: Lab) -> Array:
    file = LiteModel(content)
    real = lab.real(lab.validation.x[:24])
    return np.stack([file.dequantize(file.run([file.quantize(one[np.newaxis])])[0])[0] for one in real])


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(width=8)


@pytest.fixture(scope="module")
def exact(network: Network) -> Array:
    return probabilities(convert(network, make_lab()), make_lab())


@pytest.mark.parametrize("name", PASSES)
def test_each_precision_is_in_the_file_and_near_float(name: str, network: Network, exact: Array) -> None:
    lab = make_lab()
    settings, variant, far = PASSES[name]
    content = convert(run_pass(settings, network, lab).network, lab)
    assert inspect_file(content).variant == variant
    assert np.abs(probabilities(content, lab) - exact).max() <= far
    np.testing.assert_allclose(probabilities(content, lab).sum(axis=1), 1, atol=0.02)


def test_without_samples_only_what_needs_none_is_carried_out(network: Network) -> None:
    lab = make_lab()
    nothing = Part(lab.train.x[:0], None)
    empty = replace(lab, train=nothing, validation=nothing)
    for settings in (Int8(), Int8(aware=True), Int8(recover=1), Int16x8()):
        with pytest.raises(BuildError, match="needs samples") as caught:
            run_pass(settings, network, empty)
        assert caught.value.code == "build.samples"
    for kind in ("int8", "int16x8"):
        with pytest.raises(BuildError, match=f"{kind} needs samples"):
            convert(replace(network, precision=Precision(kind)), None)
    for bare in (Float16(), DynamicRange()):
        assert convert(run_pass(bare, network, empty).network, empty)


def test_the_outputs_are_probabilities_for_a_classification_only(network: Network) -> None:
    lab = make_lab()
    real = lab.real(lab.validation.x[:1])
    logits = LiteModel(convert(network, replace(lab, task="regression"))).run([real])[0]
    np.testing.assert_allclose(logits, np.asarray(network.model(real, training=False)), atol=1e-4)
    given = LiteModel(convert(network, lab)).run([real])[0]
    np.testing.assert_allclose(given, np.asarray(keras.ops.softmax(logits)), atol=1e-5)


def test_the_most_sensitive_layer_is_found_and_kept_until_the_goal_holds(network: Network) -> None:
    """A channel a thousand times larger than its neighbours leaves them no steps after a dense layer."""
    lab = make_lab()
    spoilt = make_network(width=8).model
    bias = spoilt.get_layer("depthwise").bias
    value = np.zeros(bias.shape, np.float32)
    value[0] = 4000.0
    bias.assign(value)
    kernel = spoilt.get_layer("conv").kernel
    weights = np.asarray(kernel.value).copy()
    weights[:, :, 0] *= 1e-6
    kernel.assign(weights)
    rounding = make_aware(Network(spoilt), lab, 32).network
    ranked = measure_sensitivity(rounding, lab)
    assert {one.layer for one in ranked} == {layer.name for layer in rounded_of(rounding.model)}
    assert ranked[0].layer == "depthwise"
    assert ranked[0].noise > 10 * ranked[1].noise
    best = score(Network(spoilt).model, lab.validation, lab)
    lab = replace(lab, goal=partial(operator.le, best))
    facts = run_pass(Int8(recover=3, calibration_samples=32), Network(spoilt), lab).facts
    assert facts["tried"][0]["score"] < best
    assert facts["tried"][1]["float"] == ["depthwise"]
    assert facts["reached"] == any(one["score"] >= best for one in facts["tried"])


@pytest.mark.parametrize(
    "settings",
    [
        Int8(calibration_samples=32),
        Int8(calibration_samples=32, aware=True, tune=Tune(epochs=1)),
        Int8(calibration_samples=32, recover=1),
    ],
    ids=["after training", "aware", "recover"],
)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_int8_variant_tells_how_much_each_layer_suffers(
    settings: Int8, task: Any, network: Network
) -> None:
    lab = replace(make_lab(), task=task)
    if task == "regression":
        lab = replace(lab, train=one_hot(lab.train), validation=one_hot(lab.validation))
    facts = explain_int8(run_pass(settings, network, lab).network, lab)
    step = PassReport(name="int8", facts=facts)
    assert {one.layer for one in step.sensitivity} == {"stem", "depthwise", "conv", "hidden", "head"}


def one_hot(part: Part) -> Part:
    return Part(part.x, np.eye(4, dtype=np.float32)[part.y])


def test_other_formats_and_networks_without_samples_have_nothing_to_tell(network: Network) -> None:
    lab = make_lab()
    blind = replace(lab, validation=Part(lab.validation.x[:0], None))
    int8 = run_pass(Int8(calibration_samples=32), network, lab).network
    assert explain_int8(int8, blind) == {}
    assert explain_int8(network, lab) == explain_int8(Network(None, precision=int8.precision), lab) == {}


def test_what_cannot_be_measured_is_told_and_ends_no_build(network: Network) -> None:
    lab = make_lab()
    inputs = keras.Input((8, 8, 1))
    twice = keras.layers.Conv2D(1, 3, padding="same", name="twice")
    x = keras.layers.Flatten()(twice(twice(inputs)))
    shared = Network(keras.Model(inputs, keras.layers.Dense(4)(x)))
    made = run_pass(Int8(calibration_samples=32), shared, lab).network
    assert "twice" in explain_int8(made, lab)["sensitivity_unknown"]


def test_recovery_stops_at_its_limit_and_says_what_it_reached(network: Network) -> None:
    lab = replace(make_lab(), goal=partial(operator.le, 1.1))
    facts = run_pass(Int8(recover=2, calibration_samples=32), network, lab).facts
    assert [len(one["float"]) for one in facts["tried"]] == [0, 1, 2]
    assert not facts["reached"]
    enough = replace(lab, goal=partial(operator.le, facts["tried"][0]["score"]))
    facts = run_pass(Int8(recover=2, calibration_samples=32), network, enough).facts
    assert facts["float_layers"] == []
    assert facts["reached"], "at least: the boundary is in"


def test_a_file_is_fitted_to_an_older_runtime_or_refused(network: Network) -> None:
    lab = make_lab()
    dynamic = run_pass(DynamicRange(), network, lab).network
    with pytest.raises(BuildError, match=r"tflite-2\.14 cannot run the file: FULLY_CONNECTED") as caught:
        check_target(convert(dynamic, lab), "tflite-2.14")
    assert caught.value.code == "build.target"
    check_target(convert(dynamic, lab), "litert")
    check_target(convert(fit_target(dynamic, "tflite-2.14"), lab), "tflite-2.14")
    assert fit_target(dynamic, "litert") is dynamic
    check_target(convert(run_pass(Int8(), network, lab).network, lab), "tflite-2.14")
