"""One variant: its passes carried out, its file measured, its gates judged; weakened while it may be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

from fleet_cloud.factory.events import BackedOff, BuildEvent
from fleet_cloud.factory.gates import OF_ACCURACY, Failure, Measured, find_failures
from fleet_cloud.factory.pipeline import Made, Pipeline
from fleet_cloud.factory.recipe import Gates, VariantRecipe
from fleet_cloud.factory.recipe.passes import name_pass
from fleet_cloud.factory.recipe.targets import resolve
from fleet_cloud.factory.recipe.weaker import choose_weaker, describe_change, describe_passes

Say = Callable[[BuildEvent], None]


@dataclass(frozen=True)
class Candidate:
    """A variant as it was made. ``passes``: as they were carried out, which may be weaker than the recipe's;
    ``tried``: what was tried before, and why it was not enough."""

    recipe: VariantRecipe
    made: Made
    content: bytes
    measured: Measured
    failures: tuple[Failure, ...]
    tried: tuple[dict[str, Any], ...] = field(default=())

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def model(self) -> Any:
        """The last Keras model."""
        return self.made.network.model

    def explain(self) -> str:
        """Return which gates it does not hold, by how much, and what was tried."""
        why = " and ".join(failure.why for failure in self.failures)
        text = f"variant {self.name!r} does not hold its gate: {why}"
        if self.tried:
            tries = "; ".join(f"{one['passes']}: {one['failed'][0]}" for one in self.tried)
            text += f" (tried before: {tries})"
        return text

    def describe(self) -> dict[str, Any]:
        """Return what the lineage says of it."""
        return {
            "target": self.recipe.target,
            "passes": [
                {**step.describe(), "settings": msgspec.to_builtins(settings)}
                for step, settings in zip(self.made.steps, self.recipe.passes, strict=True)
            ],
            "tried": list(self.tried),
        }


@dataclass(frozen=True)
class Maker:
    """``finish``: makes the file of a network for a variant, and measures it."""

    pipeline: Pipeline
    base: Made
    finish: Callable[[VariantRecipe, Made], tuple[bytes, Measured]]
    say: Say

    def make(self, variant: VariantRecipe, gates: Gates) -> Candidate:
        """Return the variant, with the gates that it does not hold after all tries that it has."""
        tried: list[dict[str, Any]] = []
        goal = find_goal(gates, self.base.score)
        while True:
            made = self.pipeline.run(variant.name, self.base, resolve(variant), goal)
            content, measured = self.finish(variant, made)
            failures = tuple(find_failures(gates, measured))
            candidate = Candidate(variant, made, content, measured, failures, tuple(tried))
            weaker = self._weaken(candidate) if len(tried) < variant.back_off else None
            if weaker is None:
                return candidate
            tried.append(describe_try(candidate))
            variant = weaker

    def _weaken(self, candidate: Candidate) -> VariantRecipe | None:
        """Return the variant with a pass weakened; none when it holds its gates, when a gate fails that no
        weaker pass would hold, or when nothing is left to weaken."""
        if not candidate.failures or not {one.gate for one in candidate.failures} <= OF_ACCURACY:
            return None
        passes = candidate.recipe.passes
        chosen = choose_weaker(passes, find_costs(self.base, candidate.made))
        if chosen is None:
            return None
        index, settings = chosen
        self.say(
            BackedOff(
                subject=candidate.name,
                step=name_pass(settings),
                why=candidate.failures[0].why,
                change=describe_change(passes[index], settings),
            )
        )
        return msgspec.structs.replace(
            candidate.recipe, passes=(*passes[:index], settings, *passes[index + 1 :])
        )


def find_goal(gates: Gates, float_accuracy: float | None) -> float | None:
    """Return the least validation accuracy that the gates allow; none when they allow any."""
    bounds = [] if gates.accuracy_min is None else [gates.accuracy_min]
    if gates.accuracy_drop_max is not None and float_accuracy is not None:
        bounds.append(float_accuracy - gates.accuracy_drop_max)
    return max(bounds, default=None)


def find_costs(base: Made, made: Made) -> list[float | None]:
    """Return by how much each step lowered the validation score; none where a score is unknown."""
    scores: Sequence[float | None] = [base.score, *(step.score for step in made.steps)]
    return [None if before is None or after is None else before - after for before, after in pairwise(scores)]


def describe_try(candidate: Candidate) -> dict[str, Any]:
    return {
        "passes": describe_passes(candidate.recipe.passes),
        "failed": [failure.why for failure in candidate.failures],
    }
