"""The model that training starts from: one of the architectures, or the user's own."""

from typing import Final

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.architectures import build_model, check_architecture
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.own_models import OwnModel, check_fits, load_own_model
from fleet_cloud.factory.recipe.architecture import OWN, Architecture

UNLABELLED: Final = "nothing says what the samples are, and so how many outputs a new model should have"


def make_start(architecture: Architecture, lab: Lab, *, allow_code: bool = False) -> OwnModel:
    """Return a model for the samples of ``lab``, which ends in logits or values.

    ``allow_code``: see `fleet_cloud.factory.own_models`. Raises `RecipeError` (``recipe.architecture``) when
    it does not fit the samples, and as `load_own_model` does.
    """
    shape = tuple(lab.train.x.shape[1:])
    if architecture.kind in OWN:
        own = load_own_model(architecture, shape, count_outputs(lab), allow_code=allow_code)
        check_fits(own, lab)
        return own
    if not count_outputs(lab):
        raise RecipeError(
            f"architecture {architecture.kind}: {UNLABELLED}",
            hint="give a model of your own: kind: file",
            code="recipe.architecture",
        )
    check_architecture(architecture, shape)
    model = build_model(architecture, shape, count_outputs(lab))
    return OwnModel(model, "softmax" if lab.task == "classification" else "none")


def count_outputs(lab: Lab) -> int:
    """Return how many classes or values there are; 0 when nobody says."""
    if lab.task == "regression" and lab.train.y is not None:
        return int(lab.train.y.shape[1])
    return len(lab.labels)
