"""What the runtime that a variant is for asks of its passes. Pure.

The rules of `fleet_shared.compatibility` judge a finished file; here the file is made so that they hold.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from fleet_cloud.factory.recipe.passes import Int8, Settings
from fleet_cloud.factory.recipe.variants import Target, VariantRecipe

RUNTIMES: Final[Mapping[Target, tuple[str, str]]] = MappingProxyType(
    {"litert": ("litert", "1.0"), "tflite-2.14": ("tflite_runtime", "2.14"), "openvino": ("openvino", "2025")}
)
"""What contracts call the runtime of a target, and the oldest version that is meant."""


def resolve(variant: VariantRecipe) -> tuple[Settings, ...]:
    """Return the passes with what the target decides where the recipe leaves it open."""
    return tuple(_resolve(settings) for settings in variant.passes)


def _resolve(settings: Settings) -> Settings:
    """All targets run integer dense layers with a scale for each output (docs/runtimes.md)."""
    if isinstance(settings, Int8) and settings.per_channel_dense is None:
        return msgspec.structs.replace(settings, per_channel_dense=True)
    return settings


def allows_dynamic_per_channel(target: Target) -> bool:
    """Return whether dense layers of float activations and integer weights may have a scale for each output:
    tflite-runtime 2.14 refuses them, or gives garbage."""
    return target != "tflite-2.14"
