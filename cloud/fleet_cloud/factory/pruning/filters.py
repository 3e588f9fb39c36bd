"""The pass ``prune-filters``: whole filters of convolutions, and all that hangs on them."""

from collections.abc import Mapping
from typing import Final

from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.cutting import Cut, cut
from fleet_cloud.factory.pruning.scores import Scorer, batch_norm, by_magnitude, geometric_median, taylor
from fleet_cloud.factory.recipe.passes import PruneFilters

SCORES: Final[Mapping[str, Scorer]] = {
    "l1": by_magnitude(1),
    "l2": by_magnitude(2),
    "geometric-median": geometric_median,
    "batch-norm": batch_norm,
    "taylor": taylor,
}


def prune_filters(settings: PruneFilters, network: Network, lab: Lab) -> Outcome:
    """Return a smaller network. Raises as `cut` does."""
    how = Cut(
        kind="filters",
        fraction=settings.fraction,
        of="operations" if settings.of == "operations" else "channels",
        score=SCORES[settings.score],
        scope=settings.scope,
        multiple=settings.multiple,
        rounds=settings.rounds,
        skip=settings.skip,
        reconstruct=settings.reconstruct,
        tune=settings.tune,
    )
    outcome = cut(how, network, lab)
    return Outcome(outcome.network, {"score": settings.score, "scope": settings.scope, **outcome.facts})
