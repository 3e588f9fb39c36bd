"""Variants of a float file whose layers nobody knows: the same operators in other number formats."""

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.events import StepEnded
from fleet_cloud.factory.gates import find_failures
from fleet_cloud.factory.inspect import CHANNELS_FIRST, inspect_file, is_channels_first
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.measuring import Measurer
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.passes import run_pass
from fleet_cloud.factory.pipeline import Made, Step
from fleet_cloud.factory.quantization.file import quantize_file
from fleet_cloud.factory.quantization.targets import check_target, fit_target
from fleet_cloud.factory.recipe import Gates, VariantRecipe
from fleet_cloud.factory.recipe.passes import name_pass
from fleet_cloud.factory.recipe.targets import resolve
from fleet_cloud.factory.variant import Candidate


def check_file_fits(path: Path, content: bytes, lab: Lab) -> None:
    """Raise `RecipeError` (``recipe.architecture``) when a file and the samples do not belong together."""
    facts, sample = inspect_file(content), tuple(lab.validation.x.shape[1:])
    takes, gives = (tuple(tuple(one.shape) for one in side) for side in (facts.inputs, facts.outputs))
    if len(takes) != 1 or len(gives) != 1:
        raise _refuse(f"{path} has {len(takes)} inputs and {len(gives)} outputs", "one of each is needed")
    batch, item = takes[0][:1], takes[0][1:]
    if item != sample:
        raise _refuse(
            f"{path} takes samples of {item}, and the data set has {sample}",
            CHANNELS_FIRST
            if is_channels_first(item, sample)
            else "set dataset.image_size, or choose another model",
        )
    if batch not in {(1,), (-1,)}:
        raise _refuse(f"{path} takes {batch[0]} samples at once", "convert it for a batch of one")
    _check_outputs(path, prod(gives[0][1:]), lab)


def _check_outputs(path: Path, gives: int, lab: Lab) -> None:
    """One output may tell two classes apart."""
    y, classes = lab.validation.y, lab.task == "classification"
    if y is None:
        return
    wanted = len(lab.labels) if classes else prod(y.shape[1:])
    if gives != wanted and not (classes and (gives, wanted) == (1, 2)):
        raise _refuse(
            f"{path} gives {gives} values, and the data set has {wanted}{' classes' if classes else ''}",
            "both must have the same, in the same order (folders: by name)",
        )


def _refuse(message: str, hint: str) -> RecipeError:
    return RecipeError(message, hint=hint, code="recipe.architecture")


@dataclass(frozen=True)
class FileMaker:
    """``reference``: the float file. Its network is unknown: passes on it say of a format no more than which
    it shall be (`fleet_cloud.factory.recipe.mistakes` refuses others)."""

    reference: bytes
    measurer: Measurer
    lab: Lab

    def make(self, variant: VariantRecipe, gates: Gates) -> Candidate:
        """Return the variant, with the gates that it does not hold. Raises `BuildError` as `quantize_file`
        does, and ``build.target``."""
        begin, network = time.monotonic(), Network(None)
        passes = resolve(variant)
        for settings in passes:
            network = run_pass(settings, network, self.lab).network
        precision = fit_target(network, variant.target).precision
        content = quantize_file(self.reference, precision, self.lab)
        check_target(content, variant.target)
        seconds = time.monotonic() - begin
        steps = tuple(Step(name_pass(settings), {}, None, seconds, False) for settings in passes)
        for step in steps:
            self.lab.say(StepEnded(subject=variant.name, step=step.name, seconds=step.seconds))
        measured = self.measurer.measure(content)
        return Candidate(
            variant, Made(network, "", steps), content, measured, tuple(find_failures(gates, measured))
        )
