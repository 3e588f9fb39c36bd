"""Variants of a float file whose layers nobody knows: the same operators in other number formats."""

import time
from dataclasses import dataclass

from fleet_cloud.factory.events import StepEnded
from fleet_cloud.factory.gates import find_failures
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
