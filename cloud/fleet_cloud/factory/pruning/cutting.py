"""Rounds of removal and training: what the passes for filters and for neurons share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.events import Warned
from fleet_cloud.factory.finetuning import fine_tune
from fleet_cloud.factory.graph import flatten
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pruning.choosing import Scope, choose, solve
from fleet_cloud.factory.pruning.dependencies import Dependencies, Kind, analyse
from fleet_cloud.factory.pruning.reconstruction import SAMPLES, reconstruct
from fleet_cloud.factory.pruning.removal import Costs, find_held, remove
from fleet_cloud.factory.pruning.scores import Scorer
from fleet_cloud.factory.recipe.passes import Tune

LAYERS_NAMED: Final = 5
"""By a warning; the report names all."""


@dataclass(frozen=True)
class Cut:
    """What a pass was asked for. ``fraction``: of the operations of the network as it was given, or of the
    channels of its groups; each round goes an equal part of the way."""

    kind: Kind
    fraction: float
    of: Literal["operations", "channels"]
    score: Scorer
    scope: Scope
    multiple: int
    rounds: int
    skip: tuple[str, ...]
    reconstruct: bool
    tune: Tune


@dataclass(frozen=True)
class Before:
    """The network as it was given. ``channels``: in all groups that may be cut."""

    operations: int
    parameters: int
    widths: Mapping[str, tuple[tuple[str, ...], int]]

    @property
    def channels(self) -> int:
        return sum(width for _, width in self.widths.values())


@dataclass(frozen=True)
class _State:
    network: Network
    before: Before
    left_alone: Mapping[str, str]
    rounds: tuple[dict[str, Any], ...] = field(default=())


def cut(how: Cut, network: Network, lab: Lab) -> Outcome:
    """Remove channels and train, round by round; return the network and the facts of it.

    Warns of layers that it does not support, unless they are in ``skip``. Raises `BuildError`
    (``build.prune``) if there is nothing that may be removed.
    """
    network = network.with_model(flatten(network.model))
    dependencies = _analyse(how, network)
    _warn(how, dependencies, lab)
    costs = Costs(network.model, dependencies)
    groups = dependencies.of_kind(how.kind)
    widths = {group.name: (group.makers, len(group.channels)) for group in groups}
    before = Before(costs.count_operations(()), costs.count_parameters(()), widths)
    state = _State(network, before, dependencies.left_alone)
    for number in range(1, how.rounds + 1):
        state = _run_round(how, state, lab, how.fraction * number / how.rounds)
    return Outcome(state.network, _describe(how, state))


def _run_round(how: Cut, state: _State, lab: Lab, target: float) -> _State:
    network = state.network
    dependencies = _analyse(how, network)
    costs, before = Costs(network.model, dependencies), state.before
    groups = dependencies.of_kind(how.kind)
    scored = how.score(network.model, dependencies, groups, lab)
    left_alone = {**state.left_alone, **scored.without}
    cuttable = [group for group in groups if group.name in scored.values]
    channels = sum(len(group.channels) for group in groups)

    def measure(removed: frozenset[int]) -> float:
        if how.of == "operations":
            return 1 - costs.count_operations(removed) / before.operations
        return 1 - (channels - len(removed)) / before.channels

    removed: frozenset[int] = frozenset()
    if cuttable and measure(removed) < target:
        removed = solve(
            target, lambda share: choose(cuttable, scored.values, share, how.scope, how.multiple), measure
        )
    if not removed and not state.rounds:
        raise _nothing(how, left_alone)
    smaller, errors = remove(network, dependencies, removed) if removed else network, {}
    if how.reconstruct:
        rebuilt = reconstruct(network, dependencies, removed, smaller, lab.draw(SAMPLES))
        smaller, errors = rebuilt.network, rebuilt.errors
    tuned = fine_tune(smaller, lab, how.tune)
    facts = {
        "removed": len(removed),
        "operations": costs.count_operations(removed),
        "parameters": costs.count_parameters(removed),
        "reconstructed": errors,
        **tuned.facts,
    }
    return replace(state, network=tuned.network, left_alone=left_alone, rounds=(*state.rounds, facts))


def _analyse(how: Cut, network: Network) -> Dependencies:
    return analyse(network.model, how.skip, find_held(network.constraints))


def _warn(how: Cut, dependencies: Dependencies, lab: Lab) -> None:
    layers = [one for one in dependencies.unsupported if one not in how.skip]
    if not layers:
        return
    said = "; ".join(f"{one} ({dependencies.left_alone[one]})" for one in layers[:LAYERS_NAMED])
    more = f"; and {len(layers) - LAYERS_NAMED} more" if len(layers) > LAYERS_NAMED else ""
    lab.say(Warned(message=f"prune-{how.kind} does not support, and left alone: {said}{more}"))


def _nothing(how: Cut, left_alone: Mapping[str, str]) -> BuildError:
    why = "; ".join(f"{layer}: {reason}" for layer, reason in left_alone.items())
    return BuildError(
        f"no {how.kind} can be removed with widths that are multiples of {how.multiple}; left alone: "
        f"{why or 'none'}",
        hint="a smaller multiple, fewer names in skip, or this pass before those that fix weights",
        code="build.prune",
    )


def _describe(how: Cut, state: _State) -> dict[str, Any]:
    dependencies = _analyse(how, state.network)
    after = {group.name: len(group.channels) for group in dependencies.of_kind(how.kind)}
    last, before = state.rounds[-1], state.before
    return {
        "asked": {"fraction": how.fraction, "of": how.of},
        "operations": {"before": before.operations, "after": last["operations"]},
        "parameters": {"before": before.parameters, "after": last["parameters"]},
        how.kind: {"before": before.channels, "after": sum(after.values())},
        "widths": {
            name: {"layers": list(layers), "before": width, "after": after[name]}
            for name, (layers, width) in before.widths.items()
        },
        "left_alone": dict(state.left_alone),
        "rounds": list(state.rounds),
    }
