"""Recipes: what one may say, and how it is read. Imports no TensorFlow."""

from fleet_cloud.factory.recipe.architecture import Architecture
from fleet_cloud.factory.recipe.dataset import Augment, Dataset
from fleet_cloud.factory.recipe.recipe import (
    Gates,
    Recipe,
    Training,
    VariantRecipe,
    describe_recipe,
    load_recipe,
)

__all__ = [
    "Architecture",
    "Augment",
    "Dataset",
    "Gates",
    "Recipe",
    "Training",
    "VariantRecipe",
    "describe_recipe",
    "load_recipe",
]
