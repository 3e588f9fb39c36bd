"""Which passes and strengths give the best trade-off: trials by Optuna, kept in a file.

A trial runs the passes through the pipeline, so what trials share comes from the cache. The file remembers
all trials: a search that was interrupted goes on, and several processes with the same recipe and cache
share one search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.recipe.order import find_nonsense
from fleet_cloud.factory.recipe.passes import Settings
from fleet_cloud.factory.recipe.search import Search, draw_passes

PASSES: Final = "passes"
FAILURE: Final = "failure"
ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Try = Callable[[tuple[Settings, ...]], tuple[float, float]]
"""From passes to accuracy (more is better) and cost (less is better); raises `BuildError`."""


@dataclass(frozen=True)
class Point:
    """A trial that no other one beats in both."""

    number: int
    passes: Sequence[Any]
    accuracy: float
    cost: float


class _Draw:
    """Asks a trial of Optuna."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choose(self, name: str, options: Sequence[Any], /) -> Any:
        return self._trial.suggest_categorical(name, list(options))

    def between(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        if isinstance(low, int) and isinstance(high, int):
            return self._trial.suggest_int(name, low, high, log=log)
        return self._trial.suggest_float(name, low, high, log=log)


def run_search(
    search: Search, attempt: Try, file: Path, seed: int, on_end: Callable[[str], None]
) -> list[Point]:
    """Make trials until the time or the number is used up; return the front, the cheapest first.

    ``file`` keeps them: it belongs to one search of one model on one data set. ``on_end`` is told of each
    trial. What is no sensible order of passes, and what a pass refuses, is a trial without a result.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open(file, seed)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        passes = draw_passes(search, _Draw(trial))
        trial.set_user_attr(PASSES, msgspec.to_builtins(passes))
        if nonsense := find_nonsense(passes):
            trial.set_user_attr(FAILURE, nonsense[0][1])
            raise optuna.TrialPruned
        try:
            return attempt(passes)
        except BuildError as exc:
            trial.set_user_attr(FAILURE, exc.message)
            raise optuna.TrialPruned from exc

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        on_end(_describe(trial))
        if _count(study) >= search.trials:
            study.stop()

    if _count(study) < search.trials:
        study.optimize(objective, timeout=search.minutes * 60, callbacks=[tell])
    return read_front(study)


def read_front(study: optuna.Study) -> list[Point]:
    """Return the trials that no other one beats in both values; of equal ones, the first."""
    points: dict[tuple[float, float], Point] = {}
    for trial in sorted(study.best_trials, key=lambda one: one.number):
        accuracy, cost = trial.values
        point = Point(trial.number, trial.user_attrs[PASSES], accuracy, cost)
        points.setdefault((cost, accuracy), point)
    return [points[key] for key in sorted(points)]


def _open(file: Path, seed: int) -> optuna.Study:
    file.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))),
        study_name="search",
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    # A search that goes on must not draw again what it drew at its start.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    return study


def _count(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=ENDED))


def _describe(trial: optuna.trial.FrozenTrial) -> str:
    if trial.state is TrialState.COMPLETE:
        accuracy, cost = trial.values
        return f"trial {trial.number}: accuracy {accuracy:.4f}, cost {cost:,.0f}"
    return f"trial {trial.number}: {trial.user_attrs.get(FAILURE, 'failed')}"
