"""What the runtime that a variant is for asks of its passes. Pure.

A network is fitted to its target, and a file judged, by `fleet_cloud.factory.quantization.targets`.
"""

import msgspec

from fleet_cloud.factory.recipe.passes import Int8, Settings
from fleet_cloud.factory.recipe.variants import VariantRecipe


def resolve(variant: VariantRecipe) -> tuple[Settings, ...]:
    """Return the passes with what the target decides where the recipe leaves it open."""
    return tuple(_resolve(settings) for settings in variant.passes)


def _resolve(settings: Settings) -> Settings:
    """All targets run integer dense layers with a scale for each output (docs/runtimes.md)."""
    if isinstance(settings, Int8) and settings.per_channel_dense is None:
        return msgspec.structs.replace(settings, per_channel_dense=True)
    return settings
