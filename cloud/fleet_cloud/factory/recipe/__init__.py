"""Recipes: what one may say, and how it is read. Imports no TensorFlow."""

from fleet_cloud.factory.recipe.architecture import Architecture
from fleet_cloud.factory.recipe.recipe import (
    Dataset,
    Gates,
    Recipe,
    Training,
    VariantRecipe,
    describe_recipe,
    load_recipe,
)

__all__ = [
    "Architecture",
    "Dataset",
    "Gates",
    "Recipe",
    "Training",
    "VariantRecipe",
    "describe_recipe",
    "load_recipe",
]
