"""One trained model for all tests of the factory: TensorFlow takes its time to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fleet_cloud.factory.events import BuildEvent
from fleet_cloud.factory.recipe import Recipe, Training, load_recipe

if TYPE_CHECKING:
    from fleet_cloud.factory.build import Built

EPOCHS = 6


@dataclass(frozen=True)
class DigitsBuild:
    recipe: Recipe
    built: "Built"
    events: list[BuildEvent]


@pytest.fixture(scope="session")
def digits_recipe() -> Recipe:
    """The example, with fewer epochs."""
    recipe = load_recipe(Path("docs/examples/digits.yaml"))
    return msgspec.structs.replace(recipe, training=Training(epochs=EPOCHS, seed=recipe.training.seed))


@pytest.fixture(scope="session")
def digits(digits_recipe: Recipe) -> DigitsBuild:
    from fleet_cloud.factory.build import build

    events: list[BuildEvent] = []
    return DigitsBuild(digits_recipe, build(digits_recipe, events.append), events)
