"""What the runtime that a variant is for asks of its passes. Pure.

A network is fitted to its target, and a file judged, by `fleet_cloud.factory.quantization.targets`.
"""

from typing import Final

import msgspec

from fleet_cloud.factory.recipe.passes import DynamicRange, Int8, Settings
from fleet_cloud.factory.recipe.variants import Target, VariantRecipe

PER_TENSOR: Final[frozenset[Target]] = frozenset({"tflite-2.14"})
"""Targets that know no dense layer with float inputs and a scale for each output."""


def resolve(variant: VariantRecipe) -> tuple[Settings, ...]:
    """Return the passes with what the target decides where the recipe leaves it open."""
    return tuple(_resolve(settings) for settings in variant.passes)


def has_dense_per_tensor(settings: Settings, target: Target) -> bool:
    """Return whether a pass gives all outputs of a dense layer one scale."""
    if isinstance(settings, DynamicRange):
        return target in PER_TENSOR
    return isinstance(settings, Int8) and settings.per_channel_dense is False


def _resolve(settings: Settings) -> Settings:
    """All targets run integer dense layers with a scale for each output (docs/runtimes.md)."""
    if isinstance(settings, Int8) and settings.per_channel_dense is None:
        return msgspec.structs.replace(settings, per_channel_dense=True)
    return settings
