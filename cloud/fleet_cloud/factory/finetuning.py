"""Training as a pass asks for it: with a teacher or without, and with its progress told."""

from fleet_cloud.factory.constraints import Schedule
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.recipe.passes import Tune
from fleet_cloud.factory.tuning import Tuned, tune


def fine_tune(network: Network, lab: Lab, how: Tune, schedule: Schedule | None = None) -> Tuned:
    """Train ``network`` by the settings of a pass. Raises as `tune` does."""
    return tune(network, lab, how, None, schedule)
