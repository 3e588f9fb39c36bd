"""Carry the search of a recipe out: each trial is a variant, made and measured as a build would.

What is found is told. Nothing is registered, and the test split is not looked at.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.candidates import Means, Workshop, open_workshop
from fleet_cloud.factory.data import load_splits, make_lab
from fleet_cloud.factory.events import BuildEvent, Found, Searched, Stage
from fleet_cloud.factory.keys import digest_splits, make_key
from fleet_cloud.factory.recipe import Recipe, VariantRecipe, find_search
from fleet_cloud.factory.recipe.passes import PassSettings
from fleet_cloud.factory.recipe.search import Against, Search
from fleet_cloud.factory.recipe.writing import write_passes, write_variant
from fleet_cloud.factory.repeatable import fix_threads
from fleet_cloud.factory.searching import Findings, count_trials, name_trial, run_search
from fleet_cloud.factory.variant import Candidate
from fleet_cloud.factory.wire import measure_wire

KEY_DIGITS: Final = 16

Say = Callable[[BuildEvent], None]


def explore(recipe: Recipe, say: Say, folder: Path, means: Means) -> Searched:
    """Search until the time or the number of trials is used up; trials are kept below ``folder``, where a
    later search of the same finds them. Raises `BuildError` as training does, and as `run_search`."""
    fix_threads()
    search = find_search(recipe)
    splits, seed = load_splits(recipe.dataset, recipe.training.seed), recipe.training.seed
    say(Stage(name="data", detail=f"{recipe.dataset.kind}: {splits.describe()}"))
    shop = open_workshop(recipe, make_lab(splits, seed, say), digest_splits(splits), means)
    file = folder / name_file(recipe, search, shop)
    ended = count_trials(file)
    before = f", after the {ended} of earlier runs" if ended else ""
    say(Stage(name="search", detail=f"{search.minutes:g} minutes, or {search.trials} trials in all{before}"))

    def attempt(name: str, passes: tuple[PassSettings, ...]) -> tuple[float, float]:
        variant = VariantRecipe(name=name, target=search.target, passes=passes)
        return judge(shop.make(variant, recipe.gates), search.against)

    return _summarise(recipe, search, run_search(search, attempt, file, seed, say), file)


def name_file(recipe: Recipe, search: Search, shop: Workshop) -> str:
    """Return a name that is the same as long as trials can be compared; more time and more trials go on."""
    what = make_key(search.passes, search.target, search.against, recipe.gates)
    return f"{recipe.model}-{shop.key[:KEY_DIGITS]}-{what[:KEY_DIGITS]}.log"


def judge(candidate: Candidate, against: Against) -> tuple[float, float]:
    """Return accuracy and cost of a trial; raise `BuildError` (``build.gate``) for gates that it does not
    hold, and for what is unknown."""
    if candidate.failures:
        raise BuildError(candidate.explain(), code="build.gate")
    accuracy, cost = candidate.measured.accuracy, find_cost(candidate, against)
    if accuracy is None or cost is None:
        raise BuildError("its accuracy or its cost is unknown", code="build.gate")
    return accuracy, cost


def find_cost(candidate: Candidate, against: Against) -> float | None:
    """Return bytes as they travel in the best encoding, bytes of the file, or microseconds."""
    match against:
        case "wire":
            return min(size for name, size in measure_wire(candidate.content).items() if name != "xz")
        case "size":
            return candidate.measured.size_bytes
        case "latency":
            return candidate.measured.latency_us


def _summarise(recipe: Recipe, search: Search, findings: Findings, file: Path) -> Searched:
    front = tuple(
        Found(
            name=name_trial(point.number),
            accuracy=point.accuracy,
            cost=point.cost,
            passes=tuple(write_passes(point.passes)),
        )
        for point in findings.front
    )
    return Searched(
        model=recipe.model,
        target=search.target,
        against=search.against,
        trials=findings.trials,
        failed=findings.failed,
        front=front,
        variants="".join(write_variant(one.name, search.target, one.passes) for one in front),
        file=str(file),
    )
