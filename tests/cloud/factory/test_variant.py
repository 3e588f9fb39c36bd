"""A variant that misses its gates backs off, says so, and stops when it may or can no more."""

from dataclasses import dataclass, field

import pytest

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.build import check_gates
from fleet_cloud.factory.events import BackedOff, BuildEvent
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.pipeline import Made, Pipeline
from fleet_cloud.factory.recipe import Gates, VariantRecipe
from fleet_cloud.factory.recipe.passes import Int8, PruneWeights, Tune
from fleet_cloud.factory.variant import Candidate, Maker, find_costs, find_goal
from tests.cloud.factory.small import make_lab, make_network

PRUNE = PruneWeights(sparsity=0.8, tune=Tune(epochs=0))


@dataclass
class Bench:
    """A maker whose files are as accurate as their weights are dense: what is tested is what it does about
    that."""

    events: list[BuildEvent] = field(default_factory=list)

    def make(self, variant: VariantRecipe, gates: Gates) -> Candidate:
        pipeline = Pipeline(make_lab(16, say=self.events.append), "quarters")
        maker = Maker(pipeline, Made(make_network(), "float"), self.measure, self.events.append)
        return maker.make(variant, gates)

    @staticmethod
    def measure(variant: VariantRecipe, _made: Made) -> tuple[bytes, Measured]:
        (pruning, *_) = variant.passes
        assert isinstance(pruning, PruneWeights)
        return b"file", Measured(size_bytes=4, accuracy=1 - pruning.sparsity)

    @property
    def changes(self) -> list[str]:
        return [event.change for event in self.events if isinstance(event, BackedOff)]


def variant(back_off: int) -> VariantRecipe:
    return VariantRecipe(name="pruned", passes=(PRUNE, Int8()), back_off=back_off)


def test_it_weakens_the_pass_until_the_gate_holds() -> None:
    bench = Bench()
    made = bench.make(variant(back_off=5), Gates(accuracy_min=0.5))
    assert not made.failures
    assert bench.changes == ["sparsity 0.8 -> 0.6", "sparsity 0.6 -> 0.45"]
    assert made.recipe.passes[0] == PruneWeights(sparsity=0.45, tune=Tune(epochs=0))
    described = made.describe()
    assert described["passes"][0]["settings"]["sparsity"] == 0.45
    assert [one["passes"] for one in described["tried"]] == [
        "prune-weights 0.8, int8",
        "prune-weights 0.6, int8",
    ]
    check_gates([made])


def test_a_gate_that_holds_at_once_changes_nothing() -> None:
    bench = Bench()
    made = bench.make(variant(back_off=5), Gates(accuracy_min=0.05))
    assert (made.tried, bench.changes) == ((), [])


def test_it_tries_no_more_often_than_the_recipe_says_and_the_failure_tells_what_was_tried() -> None:
    bench = Bench()
    made = bench.make(variant(back_off=1), Gates(accuracy_min=0.5))
    assert bench.changes == ["sparsity 0.8 -> 0.6"]
    with pytest.raises(BuildError) as caught:
        check_gates([made])
    assert caught.value.code == "build.gate"
    assert "variant 'pruned' does not hold its gate" in caught.value.message
    assert "0.4000 is below accuracy_min 0.5000 by 0.1000" in caught.value.message
    assert "tried before: prune-weights 0.8, int8: validation accuracy 0.2000" in caught.value.message


def test_a_gate_that_a_weaker_pass_cannot_hold_ends_the_tries() -> None:
    bench = Bench()
    made = bench.make(variant(back_off=5), Gates(accuracy_min=0.5, size_max_bytes=3))
    assert [failure.gate for failure in made.failures] == ["accuracy_min", "size_max_bytes"]
    assert bench.changes == []


def test_all_variants_that_fail_are_named_together() -> None:
    bench = Bench()
    failed = [bench.make(variant(back_off=0), Gates(accuracy_min=bound)) for bound in (0.5, 0.05, 0.6)]
    with pytest.raises(BuildError) as caught:
        check_gates(failed)
    assert caught.value.message.count("does not hold its gate") == 2


def test_costs_and_the_goal_follow_from_scores() -> None:
    bench = Bench()
    made = bench.make(variant(back_off=0), Gates())
    unknown, *_ = find_costs(Made(make_network(), "float"), made.made)
    assert unknown is None, "of the float network no score is known"
    assert len(find_costs(made.made, made.made)) == 2
    assert find_goal(Gates(), 0.9) is None
    assert find_goal(Gates(accuracy_min=0.8), 0.9) == 0.8
    assert find_goal(Gates(accuracy_min=0.8, accuracy_drop_max=0.05), 0.9) == pytest.approx(0.85)
    assert find_goal(Gates(accuracy_drop_max=0.05), None) is None
