"""The passes ``int8``, ``int16x8``, ``float16`` and ``dynamic-range``: how numbers are kept in the file.

Int8 after training is left to the converter, which takes the ranges from samples. Int8-aware training, and
layers that stay in float, need a network that rounds (`fleet_cloud.factory.quantization.aware`).
"""

from dataclasses import replace

from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.quantization.aware import make_aware, settle_biases
from fleet_cloud.factory.quantization.samples import require_samples
from fleet_cloud.factory.quantization.sensitivity import recover
from fleet_cloud.factory.recipe.passes import DynamicRange, Float16, Int8, Int16x8


def int8(settings: Int8, network: Network, lab: Lab) -> Outcome:
    """Integers of 8 bits. Raises `BuildError` (``build.samples``) without samples, and as training and
    folding do."""
    require_samples(lab, "int8")
    per_channel_dense = settings.per_channel_dense is not False
    if not settings.aware and not settings.recover:
        precision = Precision(
            "int8",
            per_channel_dense=per_channel_dense,
            calibration_samples=settings.calibration_samples,
        )
        return Outcome(replace(network, precision=precision))
    return _int8_aware(settings, network, lab, per_channel_dense)


def _int8_aware(settings: Int8, network: Network, lab: Lab, per_channel_dense: bool) -> Outcome:
    aware = make_aware(network, lab, settings.calibration_samples, per_channel_dense)
    rounding, facts = aware.network, {"float_inside": list(aware.floats)}
    if settings.aware:
        tuned = fine_tune(rounding, lab, settings.tune)
        rounding, facts = settle_biases(tuned.network), {**facts, **tuned.facts}
    if not settings.recover:
        return Outcome(rounding, facts)
    if lab.goal is None or lab.validation.y is None:
        return Outcome(rounding, {**facts, "recover": "there is no gate on accuracy to recover for"})
    recovered = recover(rounding, lab, lab.goal, settings.recover)
    return Outcome(recovered.network, {**facts, **recovered.facts})


def int16x8(settings: Int16x8, network: Network, lab: Lab) -> Outcome:
    """Activations of 16 bits, weights of 8. Raises `BuildError` (``build.samples``) without samples."""
    require_samples(lab, "int16x8")
    precision = Precision("int16x8", calibration_samples=settings.calibration_samples)
    return Outcome(replace(network, precision=precision))


def float16(_settings: Float16, network: Network, _lab: Lab) -> Outcome:
    """Weights of half precision. Needs no samples."""
    return Outcome(replace(network, precision=Precision("float16")))


def dynamic_range(_settings: DynamicRange, network: Network, _lab: Lab) -> Outcome:
    """Weights of 8 bits, activations in float. Needs no samples."""
    return Outcome(replace(network, precision=Precision("dynamic-range")))
