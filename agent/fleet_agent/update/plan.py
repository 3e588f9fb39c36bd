"""What a verified desired document asks of this device. Pure."""

from dataclasses import dataclass

from fleet_agent.slots import Pointers
from fleet_agent.trust.protocol import DesiredVerified
from fleet_agent.update.record import UpdateRecord
from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.manifest import Contract, parse_manifest
from fleet_shared.messages.desired import Desired, Policy
from fleet_shared.messages.reported import Failure, Order, Running, RuntimeFact
from fleet_shared.messages.update import UpdateState
from fleet_shared.wire import decode


@dataclass(frozen=True)
class Nothing:
    """Leave everything as it is; ``reason`` is for the log."""

    reason: str


@dataclass(frozen=True)
class Start:
    """Begin the update that ``record`` describes."""

    record: UpdateRecord


@dataclass(frozen=True)
class Accept:
    """The same assignment, signed again: the order is newer, and the policy may be another."""

    order: Order
    policy: Policy


def plan_update(
    verified: DesiredVerified,
    current: UpdateRecord | None,
    pointers: Pointers,
    runtimes: tuple[RuntimeFact, ...],
    boot_id: str,
    now_ms: int,
) -> Nothing | Start | Accept:
    """Decide what to do. ``now_ms`` is on the boot clock."""
    desired = decode(Desired, verified.desired)
    accepted = current.accepted if current is not None else Order()
    if verified.expired:
        return Nothing("the desired state is expired")
    if desired.order <= accepted or not desired.run:
        return Nothing("nothing new is desired")
    entry = desired.run[0]
    if current is not None and current.entry.assignment == entry.assignment:
        return Accept(desired.order, desired.policy)
    manifest = verified.manifests[entry.manifest]
    parsed = parse_manifest(manifest)
    target = Running(
        model=entry.model,
        version=entry.version,
        variant=parsed.variant,
        manifest=entry.manifest,
        assignment=entry.assignment,
        runtime=choose_runtime(parsed.contract, runtimes) or "",
    )
    return Start(
        UpdateRecord(
            entry=entry,
            manifest=manifest,
            target=target,
            policy=desired.policy,
            accepted=desired.order,
            state=UpdateState.DOWNLOADING,
            boot_id=boot_id,
            started_ms=now_ms,
            saved_ms=now_ms,
            deadline_ms=now_ms + int(desired.policy.deadline_s * 1000),
            before=pointers.active,
            before_previous=pointers.previous,
        )
    )


def choose_runtime(contract: Contract, runtimes: tuple[RuntimeFact, ...]) -> str | None:
    """Return the first installed runtime that nothing speaks against, or none."""
    for runtime in runtimes:
        if not find_incompatibilities(contract, runtime.name, runtime.version):
            return runtime.name
    return None


def explain_no_runtime(contract: Contract, runtimes: tuple[RuntimeFact, ...]) -> Failure:
    reasons = [
        reason
        for runtime in runtimes
        for reason in find_incompatibilities(contract, runtime.name, runtime.version)
    ]
    return Failure(
        code="runtime.incompatible",
        message=f"no runtime of this device can run the model: {'; '.join(reasons) or 'none is installed'}",
        hint="install the agent's extra [litert] or [tflite], or push another variant",
    )
