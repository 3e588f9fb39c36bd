"""Recipes: what one may say, and how it is read. Imports no TensorFlow."""

from fleet_cloud.factory.recipe.architecture import Architecture
from fleet_cloud.factory.recipe.dataset import Augment, Dataset
from fleet_cloud.factory.recipe.example import SCHEMA_NAME, write_example
from fleet_cloud.factory.recipe.loading import describe_schema, examine_recipe, load_recipe
from fleet_cloud.factory.recipe.problems import Problem
from fleet_cloud.factory.recipe.recipe import (
    Recipe,
    Teacher,
    Training,
    describe_recipe,
    find_search,
    limit_search,
)
from fleet_cloud.factory.recipe.variants import Gates, Target, VariantRecipe, merge_gates

__all__ = [
    "SCHEMA_NAME",
    "Architecture",
    "Augment",
    "Dataset",
    "Gates",
    "Problem",
    "Recipe",
    "Target",
    "Teacher",
    "Training",
    "VariantRecipe",
    "describe_recipe",
    "describe_schema",
    "examine_recipe",
    "find_search",
    "limit_search",
    "load_recipe",
    "merge_gates",
    "write_example",
]
