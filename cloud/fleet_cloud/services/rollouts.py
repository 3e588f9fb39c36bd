"""Rollouts: a request only records what is wanted; the tick carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.policy import find_problem
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentChange,
    Rollout,
    RolloutId,
)
from fleet_cloud.errors import Conflict, Invalid, NotFound
from fleet_cloud.services.audit import note
from fleet_cloud.services.devices import all_devices, select_devices
from fleet_cloud.services.models import get_version
from fleet_cloud.services.ports import Clock, Ids, Transaction, Trust, UnitOfWork
from fleet_shared.messages.desired import Policy
from fleet_shared.names import AssignmentId, VariantName, parse_variant_name
from fleet_shared.version import ModelRef


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    rollout: Rollout
    assignments: Sequence[Assignment]


@dataclass(frozen=True, slots=True)
class Rollouts:
    uow: UnitOfWork
    clock: Clock
    ids: Ids
    trust: Trust

    def create(
        self, reference: ModelRef, selector: str, variant: str | None, policy: Policy, by: Actor
    ) -> RolloutStatus:
        """Record a rollout of one wave over the devices that ``selector`` means now; raise `Invalid`
        (``rollout.policy``, ``rollout.empty``, ``selector.invalid``), `Conflict` (``version.unsigned``)."""
        _check_policy(policy)
        with self.uow.begin() as transaction:
            version = get_version(transaction, reference)
            forced = None if variant is None else _check_variant(version, variant)
            _check_released(version, forced, self.trust)
            devices = [d for d in select_devices(transaction, selector) if d.revoked_ms is None]
            if not devices:
                raise _nobody(transaction, selector)
            rollout = Rollout(
                id=RolloutId(self.ids.new_id()),
                model=version.model,
                version=version.version,
                selector=selector,
                devices=tuple(device.id for device in devices),
                created_ms=self.clock.now_ms(),
                policy=policy,
                variant=forced,
            )
            transaction.rollouts.add(rollout)
            note(transaction, by, rollout.created_ms, "rollout.create", rollout.id, after=_shown(rollout))
        return RolloutStatus(rollout, ())

    def get(self, rollout: str) -> RolloutStatus:
        with self.uow.read() as transaction:
            found = transaction.rollouts.get(RolloutId(rollout))
            if found is None:
                raise NotFound(
                    f"no rollout {rollout!r}", hint="fleet rollout list shows all", code="rollout.unknown"
                )
            return RolloutStatus(found, transaction.assignments.of_rollout(found.id))

    def page(self, limit: int) -> Sequence[Rollout]:
        with self.uow.read() as transaction:
            return transaction.rollouts.page(limit)

    def history(self, assignment: AssignmentId) -> Sequence[AssignmentChange]:
        with self.uow.read() as transaction:
            return transaction.assignments.history(assignment)


def _shown(rollout: Rollout) -> dict[str, object]:
    return {
        "model": f"{rollout.model}:{rollout.version}",
        "selector": rollout.selector,
        "devices": len(rollout.devices),
        "variant": rollout.variant,
        "policy": rollout.policy,
    }


def _check_policy(policy: Policy) -> None:
    """Refuse what no later step could work with."""
    if (problem := find_problem(policy)) is not None:
        raise Invalid(problem.message, hint=problem.hint, code="rollout.policy")


def _check_variant(version: ModelVersion, variant: str) -> VariantName:
    name = parse_variant_name(variant)
    known = [known.name for known in version.variants]
    if name not in known:
        raise NotFound(
            f"{version.model}:{version.version} has no variant {name!r}",
            hint=f"it has {', '.join(known)}",
            code="model.variant.unknown",
        )
    return name


def _check_released(version: ModelVersion, forced: VariantName | None, trust: Trust) -> None:
    """Devices refuse what the release keys have not signed: it is said before they are asked."""
    wanted = [one.digest for one in version.variants if forced in (None, one.name)]
    if trust.unsigned(wanted):
        raise Conflict(
            f"{version.model}:{version.version} waits to be signed by the release keys",
            hint="fleet trust sign --export FILE; fleet trust status says who must sign",
            code="version.unsigned",
        )


def _nobody(transaction: Transaction, selector: str) -> Invalid:
    labels = {f"{key}={value}" for device in all_devices(transaction) for key, value in device.labels.items()}
    return Invalid(
        f"no device matches {selector!r}",
        hint=f"labels in use: {', '.join(sorted(labels)[:10]) or 'none'}; fleet device list shows all",
        code="rollout.empty",
    )
