"""Training as a pass asks for it: with a teacher or without."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.constraints import Schedule
from fleet_cloud.factory.distillation.objective import get_teacher, make_objective
from fleet_cloud.factory.events import Warned
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.objective import Objective
from fleet_cloud.factory.recipe.passes import Distil, Tune
from fleet_cloud.factory.tuning import Tuned, predict, tune


def fine_tune(network: Network, lab: Lab, how: Tune, schedule: Schedule | None = None) -> Tuned:
    """Train ``network`` by the settings of a pass. Raises `BuildError` (``build.samples``) when there are
    none, and as `tune` and `make_objective` do.

    With attention transfer it trains twice, with it and without, and keeps it only if the validation split
    says that it helped.
    """
    if how.epochs and not (len(lab.train) and len(lab.validation)):
        raise BuildError(
            "there are no samples to train on",
            hint="name a data set (with a teacher it needs no labels), or leave out the epochs (epochs: 0)",
            code="build.samples",
        )
    if how.distil is None or not how.epochs:
        return tune(network, lab, how, None, schedule)
    if lab.validation.y is None:
        lab = _judge_by_teacher(lab, how.distil)
    notes: dict[str, Any] = {"teacher": how.distil.teacher}
    alone = msgspec.structs.replace(how.distil, attention=0.0)
    tuned = tune(network, lab, how, make_objective(alone, network, lab), schedule)
    if how.distil.attention:
        attentive = make_objective(how.distil, network, lab)
        tuned, notes["attention"] = _choose(
            tuned, tune(network, lab, how, attentive, schedule), how.distil, attentive
        )
    return replace(tuned, notes=notes)


def _choose(without: Tuned, attentive: Tuned, how: Distil, objective: Objective) -> tuple[Tuned, Any]:
    """Return the better one, and what to say of the choice."""
    scores = [one.best.score if one.best else -np.inf for one in (without, attentive)]
    kept = scores[1] > scores[0]
    facts = {
        "factor": how.attention,
        "kept": kept,
        "score": scores[1],
        "score_without": scores[0],
        "layers": list(objective.taps),
    }
    return attentive if kept else without, facts


def _judge_by_teacher(lab: Lab, how: Distil) -> Lab:
    """Return the lab with the teacher's answers as the labels of the validation split."""
    lab.say(
        Warned(
            message="the validation samples have no labels: what is called right below is what the teacher "
            f"{how.teacher!r} says"
        )
    )
    said = predict(get_teacher(how, lab.teachers), lab.validation, lab)
    answers = said if lab.task == "regression" else said.argmax(axis=1)
    return replace(lab, validation=Part(lab.validation.x, answers))
