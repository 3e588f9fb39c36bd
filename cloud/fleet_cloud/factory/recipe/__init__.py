"""Recipes: what one may say, and how it is read. Imports no TensorFlow."""

from fleet_cloud.factory.recipe.architecture import Architecture
from fleet_cloud.factory.recipe.recipe import (
    Dataset,
    Recipe,
    Teacher,
    Training,
    describe_recipe,
    load_recipe,
)
from fleet_cloud.factory.recipe.variants import Gates, Target, VariantRecipe, merge_gates

__all__ = [
    "Architecture",
    "Dataset",
    "Gates",
    "Recipe",
    "Target",
    "Teacher",
    "Training",
    "VariantRecipe",
    "describe_recipe",
    "load_recipe",
    "merge_gates",
]
