"""How much each layer suffers from int8, measured on the validation split, and what is done about it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network, Precision, copy_model
from fleet_cloud.factory.quantization.aware import keep_float, make_aware, ranges_after, rounded_of, switch
from fleet_cloud.factory.tuning import score

Array = NDArray[Any]

BATCH: Final = 128
BATCHES_MAX: Final = 4
BATCHES_OF_ALL: Final = 64
"""So many batches are run for all layers together: of deep networks fewer samples for each layer."""


@dataclass(frozen=True)
class Sensitivity:
    """``noise``: the mean squared change of the logits when this layer alone is rounded, as a share of their
    variance. It tells layers apart where few samples change their class."""

    layer: str
    noise: float


@dataclass(frozen=True)
class Recovered:
    """``facts``: sensitivities, and which layers in float gave which validation score."""

    network: Network
    facts: dict[str, Any]


def measure_sensitivity(network: Network, lab: Lab) -> list[Sensitivity]:
    """Return the layers of a network that rounds, the most sensitive first."""
    model = copy_model(network.model)
    layers = rounded_of(model)
    batches = max(1, min(BATCHES_MAX, BATCHES_OF_ALL // max(1, len(layers))))
    x = lab.real(lab.validation.x[: batches * BATCH])
    switch(model, active=False)
    exact = _forward(model, x)
    variance = max(float(exact.var()), float(np.finfo(np.float32).tiny))
    found = []
    for layer in layers:
        own = [layer, *ranges_after(model, layer.name)]
        for one in own:
            one.active = True
        noise = float(np.square(_forward(model, x) - exact).mean()) / variance
        found.append(Sensitivity(layer.name, noise))
        for one in own:
            one.active = False
    return sorted(found, key=lambda one: -one.noise)


def explain_int8(network: Network, lab: Lab) -> dict[str, Any]:
    """Return the facts of how much each layer of an int8 variant suffers, or why that cannot be told: it is
    for the report, and no reason to end a build. Where the converter does the rounding, a network that rounds
    is made for this alone."""
    precision = network.precision
    if network.model is None or precision.kind != "int8" or not len(lab.validation):
        return {}
    try:
        if not precision.aware:
            exact, samples = replace(network, precision=Precision()), precision.calibration_samples
            network = make_aware(exact, lab, samples, precision.per_channel_dense).network
        return {"sensitivity": [asdict(one) for one in measure_sensitivity(network, lab)]}
    except Exception as exc:  # noqa: BLE001  what Keras says of odd networks, or no memory
        return {"sensitivity_unknown": str(exc).partition("\n")[0] or type(exc).__name__}


def recover(network: Network, lab: Lab, is_enough: Callable[[float], bool], layers_max: int) -> Recovered:
    """Return the network with as few layers in float as a validation score that ``is_enough`` asks for, the
    most sensitive first.

    At most ``layers_max``; if the score is out of reach with them, the network of the best score, the one
    with the fewest layers in float among equals.
    """
    best, best_score = network, score(network.model, lab.validation, lab)
    tried: list[dict[str, Any]] = [{"float": [], "score": best_score}]
    ranked: Sequence[Sensitivity] = ()
    if not is_enough(best_score):
        ranked = measure_sensitivity(network, lab)
        able = [one.layer for one in ranked if _can_stay_float(network.model, one.layer, lab)]
        for count in range(1, min(layers_max, len(able)) + 1):
            kept = tuple(able[:count])
            candidate = keep_float(network, kept)
            reached = score(candidate.model, lab.validation, lab)
            tried.append({"float": list(kept), "score": reached})
            if reached > best_score:
                best, best_score = candidate, reached
            if is_enough(reached):
                break
    facts = {
        "sensitivity": [asdict(one) for one in ranked],
        "tried": tried,
        "float_layers": list(best.precision.keep_float),
        "reached": is_enough(best_score),
    }
    return Recovered(best, facts)


def _can_stay_float(model: Any, name: str, lab: Lab) -> bool:
    """Whether the converter leaves a layer in float when it is told to. Probabilities have their own range,
    so that the last layer can; other outputs have that of the last layer."""
    after = ranges_after(model, name)
    last = [tensor._keras_history.operation for tensor in model.outputs]  # noqa: SLF001  the only way
    return bool(after) and (lab.task == "classification" or not any(one in last for one in after))


def _forward(model: Any, x: Array) -> Array:
    """Return the logits; traced anew, for layers have been switched."""
    forward = tf.function(lambda part: model(part, training=False), reduce_retracing=True)
    parts = [np.asarray(forward(x[begin : begin + BATCH])) for begin in range(0, len(x), BATCH)]
    return np.concatenate(parts)
