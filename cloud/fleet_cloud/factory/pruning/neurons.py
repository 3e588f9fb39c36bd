"""The pass ``prune-neurons``: neurons of dense layers, by what they do on training samples."""

from collections.abc import Mapping
from typing import Final

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.activity import mean_activation, share_of_zeros
from fleet_cloud.factory.pruning.cutting import Cut, cut
from fleet_cloud.factory.pruning.scores import Scorer
from fleet_cloud.factory.quantization.samples import require_samples
from fleet_cloud.factory.recipe.passes import PruneNeurons

SCORES: Final[Mapping[str, Scorer]] = {"mean-activation": mean_activation, "zeros": share_of_zeros}


def prune_neurons(settings: PruneNeurons, network: Network, lab: Lab) -> Outcome:
    """Return a smaller network: the same share of each layer's neurons goes. Raises `BuildError`
    (``build.samples``) without samples, and as `cut` does."""
    require_samples(lab, "prune-neurons", "on which it sees what neurons do")
    how = Cut(
        kind="neurons",
        fraction=settings.fraction,
        of="channels",
        score=SCORES[settings.score],
        scope="layer",
        multiple=settings.multiple,
        rounds=1,
        skip=settings.skip,
        reconstruct=settings.reconstruct,
        tune=settings.tune,
    )
    outcome = cut(how, network, lab)
    return Outcome(outcome.network, {"score": settings.score, **outcome.facts})
