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
from optuna.trial import FrozenTrial, TrialState

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import Tried
from fleet_cloud.factory.recipe.order import find_nonsense
from fleet_cloud.factory.recipe.passes import PassSettings
from fleet_cloud.factory.recipe.search import Search, draw_passes
from fleet_cloud.factory.recipe.weaker import describe_passes
from fleet_shared.errors import FleetError

PASSES: Final = "passes"
FAILURE: Final = "failure"
CODE: Final = "code"
GATE: Final = "build.gate"
ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
"""Pruned: it gave no result. One that was interrupted counts for nothing."""
DIGITS: Final = 4
"""Drawn numbers have so many, as people write them."""

Try = Callable[[str, tuple[PassSettings, ...]], tuple[float, float]]
"""From the name of a trial and its passes to accuracy (more is better) and cost (less is better)."""


@dataclass(frozen=True)
class Point:
    """A trial that no other one beats in both."""

    number: int
    passes: tuple[PassSettings, ...]
    accuracy: float
    cost: float


@dataclass(frozen=True)
class Findings:
    """``front``: the cheapest first; ``trials``: how many have ended, ``failed`` without a result."""

    front: Sequence[Point]
    trials: int
    failed: int


class _Draw:
    """Asks a trial of Optuna."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choose(self, name: str, options: Sequence[Any], /) -> Any:
        return self._trial.suggest_categorical(name, list(options))

    def between(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        if isinstance(low, int) and isinstance(high, int):
            return self._trial.suggest_int(name, low, high, log=log)
        drawn = float(f"{self._trial.suggest_float(name, low, high, log=log):.{DIGITS}g}")
        return min(max(drawn, low), high)


def name_trial(number: int) -> str:
    return f"trial-{number}"


def count_trials(file: Path) -> int:
    """Return how many trials have ended in earlier runs. Raises as `run_search` does."""
    return _count(_open(file))


def run_search(
    search: Search, attempt: Try, file: Path, seed: int, on_end: Callable[[Tried], None]
) -> Findings:
    """Make trials until the time or the number is used up, and return what all of them have found.

    ``file`` keeps them: it belongs to one search of one model on one data set. ``on_end`` is told of each
    trial. Passes that had a result are not made again. What is no sensible order of passes, and what fails
    for whatever reason, is a trial without a result. Raises `BuildError` (``build.search``) when the file
    cannot be used.
    """
    study = _open(file)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        # Of its own for each trial: one that goes on, or beside another process, draws nothing twice.
        study.sampler = optuna.samplers.TPESampler(seed=seed + trial.number, constant_liar=True)
        try:
            return _attempt(search, attempt, trial)
        except Exception as exc:
            for name, value in _describe_fault(exc).items():
                trial.set_user_attr(name, value)
            raise optuna.TrialPruned from exc

    def tell(study: optuna.Study, trial: FrozenTrial) -> None:
        on_end(_describe(trial, search))
        if _count(study) >= search.trials:
            study.stop()

    if _count(study) < search.trials:
        study.optimize(objective, timeout=search.minutes * 60, callbacks=[tell])
    return Findings(read_front(study), _count(study), _count(study, (TrialState.PRUNED,)))


def read_front(study: optuna.Study) -> list[Point]:
    """Return the trials that no other one beats in both values; of equal ones, the first."""
    points: dict[tuple[float, float], Point] = {}
    for trial in sorted(study.best_trials, key=lambda one: one.number):
        accuracy, cost = trial.values
        points.setdefault((cost, accuracy), Point(trial.number, _read_passes(trial), accuracy, cost))
    return [points[key] for key in sorted(points)]


def _attempt(search: Search, attempt: Try, trial: optuna.Trial) -> tuple[float, float]:
    passes = draw_passes(search, _Draw(trial))
    trial.set_user_attr(PASSES, msgspec.to_builtins(passes))
    if nonsense := find_nonsense(passes, search.target):
        raise BuildError(nonsense[0].why)
    known = _find_same(trial.study, passes)
    return attempt(name_trial(trial.number), passes) if known is None else known


def _find_same(study: optuna.Study, passes: tuple[PassSettings, ...]) -> tuple[float, float] | None:
    """Return the result of an earlier trial of the same passes: where a few things are to be chosen, they are
    drawn again and again. Raises `BuildError` (``build.gate``) where they missed one; whatever else failed is
    tried again."""
    for trial in study.get_trials(deepcopy=False, states=ENDED):
        if _read_passes(trial) != passes:
            continue
        if trial.state is TrialState.COMPLETE:
            accuracy, cost = trial.values
            return accuracy, cost
        if trial.user_attrs.get(CODE) == GATE:
            raise BuildError(str(trial.user_attrs[FAILURE]), code=GATE)
    return None


def _open(file: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))),
            study_name="search",
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except OSError as exc:
        raise BuildError(
            f"trials cannot be kept in {file}: {exc.strerror}",
            hint="set FLEET_CACHE to a folder that can be written",
            code="build.search",
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:  # what Optuna makes of lines that it has not written
        raise BuildError(
            f"the trials in {file} cannot be read: {type(exc).__name__}: {exc}",
            hint="remove the file: the search begins anew",
            code="build.search",
        ) from exc


def _describe_fault(exc: Exception) -> dict[str, str]:
    if isinstance(exc, FleetError):
        return {FAILURE: exc.message, CODE: exc.code}
    return {FAILURE: f"{type(exc).__name__}: {exc}", CODE: ""}


def _count(study: optuna.Study, states: tuple[TrialState, ...] = ENDED) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


def _read_passes(trial: FrozenTrial) -> tuple[PassSettings, ...]:
    return msgspec.convert(trial.user_attrs.get(PASSES, ()), tuple[PassSettings, ...])


def _describe(trial: FrozenTrial, search: Search) -> Tried:
    done = trial.state is TrialState.COMPLETE
    accuracy, cost = trial.values if done else (None, None)
    return Tried(
        trial=trial.number,
        passes=describe_passes(_read_passes(trial)),
        against=search.against,
        accuracy=accuracy,
        cost=cost,
        why="" if done else trial.user_attrs.get(FAILURE, "interrupted"),
    )
