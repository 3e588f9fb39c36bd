"""The pass ``train``: train once more, with a teacher or without."""

from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.recipe.passes import Train


def train_again(settings: Train, network: Network, lab: Lab) -> Outcome:
    """Return the network after training; its weights keep what they must. Raises as `fine_tune` does."""
    tuned = fine_tune(network, lab, settings.tune)
    return Outcome(tuned.network, tuned.facts)
