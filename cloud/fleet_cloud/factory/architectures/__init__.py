"""Architectures: Keras models that are not trained yet, all of them ending in logits (or target values).

The layers' names follow from the settings alone, so that weights, constraints and reports find them again.
"""

from fleet_cloud.factory.architectures.building import build_model, check_architecture

__all__ = ["build_model", "check_architecture"]
