"""The pass log-quantize: on its levels before and after training, zeros and kept layers as they were."""

from typing import Literal

import msgspec
import numpy as np
import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.network import Network, array_of, weights_of
from fleet_cloud.factory.pruning.weights import prune_weights
from fleet_cloud.factory.quantization.levels import Levels
from fleet_cloud.factory.quantization.logarithmic import log_quantize
from fleet_cloud.factory.quantization.powers import power_grid
from fleet_cloud.factory.recipe.passes import LogQuantize, PassSettings, PruneWeights, Tune
from tests.cloud.factory.small import make_lab, make_network

AT_ONCE = Tune(epochs=0)
SHORT = Tune(epochs=2, batch_size=32, learning_rate=0.005)


def check_powers(network: Network, settings: LogQuantize, paths: tuple[str, ...]) -> None:
    """Each channel of each kernel: a scale times the levels, told from the weights alone."""
    assert settings.base != "range"
    levels = power_grid(settings.base, settings.terms, settings.bits).levels
    for path in paths:
        weight, constraint = array_of(weights_of(network.model)[path]), network.constraints[path]
        assert isinstance(constraint, Levels)
        ratio = (weight / constraint.scales)[..., np.newaxis]
        assert np.abs(ratio - levels).min(axis=-1).max() < 1e-6
        channels = weight.reshape(-1, weight.shape[-1] * (weight.shape[-2] if "depthwise" in path else 1))
        assert all(len(np.unique(channel)) <= 2**settings.bits - 1 for channel in channels.T)


@pytest.mark.parametrize(("base", "terms", "bits"), [("2", 1, 3), ("sqrt2", 1, 5), ("sqrt2", 2, 5)])
def test_kernels_are_powers_with_and_without_training(
    base: Literal["2", "sqrt2"], terms: Literal[1, 2], bits: int
) -> None:
    paths = ("stem/kernel", "depthwise/kernel", "conv/kernel", "hidden/kernel")
    for tune in (AT_ONCE, SHORT) if bits == 3 else (AT_ONCE,):
        settings = LogQuantize(base=base, terms=terms, bits=bits, keep=("last",), tune=tune)
        outcome = log_quantize(settings, make_network(), make_lab())
        check_powers(outcome.network, settings, paths)
        assert sorted(outcome.network.constraints) == sorted(paths)
        assert len(outcome.facts.get("history", [])) == tune.epochs


def test_more_bits_and_terms_err_less_and_the_facts_say_so() -> None:
    def errors(settings: LogQuantize) -> list[float]:
        facts = log_quantize(settings, make_network(), make_lab()).facts
        assert msgspec.json.decode(msgspec.json.encode(facts)) == facts
        assert all(layer["entropy_bits_per_weight"] <= settings.bits for layer in facts["layers"])
        return [layer["mean_squared_error"] for layer in facts["layers"]]

    coarse = errors(LogQuantize(base="2", bits=3, tune=AT_ONCE))
    fine = errors(LogQuantize(base="sqrt2", bits=5, tune=AT_ONCE))
    finest = errors(LogQuantize(base="sqrt2", bits=6, terms=2, tune=AT_ONCE))
    ranged = errors(LogQuantize(base="range", bits=6, tune=AT_ONCE))
    assert np.all(np.array(coarse) > np.array(fine))
    assert np.all(np.array(fine) > np.array(finest))
    assert np.all(np.array(fine) > np.array(ranged))


def test_what_was_pruned_stays_zero_and_what_is_kept_stays_as_it_was() -> None:
    lab = make_lab()
    pruned = prune_weights(PruneWeights(sparsity=0.6, tune=AT_ONCE), make_network(), lab).network
    settings = LogQuantize(base="range", bits=4, keep=("first", "head"), tune=SHORT)
    network = log_quantize(settings, pruned, lab).network
    weights = {path: array_of(weight) for path, weight in weights_of(network.model).items()}
    for path in ("stem/kernel", "conv/kernel", "hidden/kernel", "head/kernel"):
        zero = array_of(weights_of(pruned.model)[path]) == 0
        assert zero.mean() > 0.5
        assert not weights[path][zero].any()
    assert network.constraints["head/kernel"].kind == "mask"
    distinct = [len(np.unique(channel)) for channel in weights["conv/kernel"].reshape(-1, 8).T]
    assert max(distinct) <= 15


def test_a_layer_that_is_not_there_cannot_be_kept() -> None:
    with pytest.raises(BuildError, match="'norm' is no layer with a kernel"):
        log_quantize(LogQuantize(keep=("norm",)), make_network(), make_lab())


def test_a_range_has_no_second_term() -> None:
    with pytest.raises(msgspec.ValidationError, match="terms: the quantizer over a range"):
        msgspec.convert({"pass": "log-quantize", "base": "range", "terms": 2}, PassSettings)
