"""From the float network to the networks of the variants, pass by pass, each result kept by its key.

What a step gives is written and read back before the next one takes it, and each step begins from the same
state of the random numbers and names: so a build that goes on from the cache computes the same as one that
was never interrupted.
"""

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec

from fleet_cloud.factory.events import BuildEvent, Epoch, StepBegan, StepEnded
from fleet_cloud.factory.keeping import Keeper, NoKeeper, Result
from fleet_cloud.factory.keys import make_pass_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.passes import run_pass
from fleet_cloud.factory.recipe.passes import Settings, find_teacher, name_pass, seeks_goal
from fleet_cloud.factory.repeatable import make_repeatable
from fleet_cloud.factory.tuning import score

TRAINING: Final = "training"

Say = Callable[[BuildEvent], None]
Compute = Callable[[Lab], Outcome]


@dataclass(frozen=True)
class Step:
    """One step as it went. ``cached``: its result was there from an earlier build, which took ``seconds``."""

    name: str
    facts: Mapping[str, Any]
    score: float | None
    seconds: float
    cached: bool

    def describe(self) -> dict[str, Any]:
        """Return what the lineage says of it."""
        return {
            "pass": self.name,
            "facts": dict(self.facts),
            "validation_score": self.score,
            "seconds": round(self.seconds, 3),
            "cached": self.cached,
        }


@dataclass(frozen=True)
class Made:
    """A network, the key of its last step, and the steps that made it."""

    network: Network
    key: str
    steps: tuple[Step, ...] = field(default=())

    @property
    def score(self) -> float | None:
        return self.steps[-1].score if self.steps else None


@dataclass(frozen=True)
class Place:
    """Where in a build a step is: for whoever watches it."""

    subject: str
    number: int = 1
    steps: int = 1


class Pipeline:
    """``label``: the model's name, by which people find results in the cache."""

    def __init__(self, lab: Lab, label: str, keeper: Keeper | None = None) -> None:
        self._lab, self._label = lab, label
        self._keeper: Keeper = keeper or NoKeeper()
        self._teachers: dict[str, tuple[str, Callable[[], Made]]] = {}
        self._taught: dict[str, Made] = {}

    def add_teacher(self, name: str, key: str, make: Callable[[], Made]) -> None:
        """Make a teacher known; it is made when the first pass that learns from it has no result yet."""
        self._teachers[name] = (key, make)

    @property
    def teachers(self) -> dict[str, str]:
        """The keys of the teachers that are known, by their names."""
        return {name: key for name, (key, _) in self._teachers.items()}

    def _teach(self, name: str) -> Any:
        """Return the teacher's model."""
        if name not in self._taught:
            self._taught[name] = self._teachers[name][1]()
        return self._taught[name].network.model

    def begin(self, place: Place, key: str, compute: Compute) -> Made:
        """Return a network that is made of nothing but samples, by training or from a file."""
        result, step = self._take(place, TRAINING, key, lambda: compute)
        return Made(result.network, key, (step,))

    def run(
        self, subject: str, base: Made, passes: Sequence[Settings], score_min: float | None = None
    ) -> Made:
        """Return what the passes make of ``base``, in order. ``score_min``: the
        validation score that the gates ask for; passes that seek it are told (`Lab.goal`)."""
        made = Made(base.network, base.key)
        for number, settings in enumerate(passes, 1):
            goal = score_min if seeks_goal(settings) else None
            made = self._run_pass(Place(subject, number, len(passes)), made, settings, goal)
        return made

    def _run_pass(self, place: Place, before: Made, settings: Settings, goal: float | None) -> Made:
        teacher = find_teacher(settings)
        known = None if teacher is None else self._teachers[teacher][0]
        key = make_pass_key(before.key, settings, known, goal)

        def prepare() -> Compute:
            teachers = {} if teacher is None else {teacher: self._teach(teacher)}
            reached = None if goal is None else partial(operator.le, goal)
            return lambda lab: run_pass(
                settings, before.network, replace(lab, teachers=teachers, goal=reached)
            )

        result, step = self._take(place, name_pass(settings), key, prepare)
        return Made(result.network, key, (*before.steps, step))

    def _take(self, place: Place, name: str, key: str, prepare: Callable[[], Compute]) -> tuple[Result, Step]:
        """Return the result from an earlier build, or compute it now. What has to be there first, such as a
        teacher, is made by ``prepare``, before the step begins from its own state."""
        found = self._keeper.load(key)
        result = found or self._compute(place, name, key, prepare())
        step = Step(name, result.facts, result.score, result.seconds, found is not None)
        self._lab.say(
            StepEnded(
                subject=place.subject, step=name, number=place.number, steps=place.steps,
                cached=step.cached, seconds=step.seconds, score=step.score,
            )
        )  # fmt: skip
        return result, step

    def _compute(self, place: Place, name: str, key: str, compute: Compute) -> Result:
        lab = replace(self._lab, say=self._say_of(place, name))
        lab.say(StepBegan(subject=place.subject, step=name, number=place.number, steps=place.steps))
        make_repeatable(lab.seed)
        begin = time.monotonic()
        outcome = compute(lab)
        seconds = time.monotonic() - begin
        result = Result(outcome.network, outcome.facts, self._score(outcome.network), seconds)
        return self._keeper.keep(key, result, f"{self._label}: {place.subject}, {name}")

    def _score(self, network: Network) -> float | None:
        """Return the validation score of what the network computes; none without labels, and where the number
        format is the converter's work: only the file shows what it costs."""
        precision, part = network.precision, self._lab.validation
        rounds_later = precision.kind != "fp32" and not precision.aware
        if rounds_later or part.y is None or not len(part):
            return None
        return score(network.model, part, self._lab)

    def _say_of(self, place: Place, name: str) -> Say:
        """Return what tells events of a step: a pass need not know where it is."""

        def say(event: BuildEvent) -> None:
            if isinstance(event, Epoch):
                event = msgspec.structs.replace(event, subject=place.subject, step=name)
            self._lab.say(event)

        return say
