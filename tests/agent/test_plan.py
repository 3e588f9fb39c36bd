"""What a verified desired document asks of a device, and what it must not do."""

from typing import Any

import msgspec
import pytest

from fleet_agent.slots import Pointers
from fleet_agent.trust.protocol import DesiredVerified
from fleet_agent.update.plan import (
    Accept,
    Nothing,
    Start,
    choose_runtime,
    explain_no_runtime,
    plan_update,
)
from fleet_agent.update.record import UpdateRecord
from fleet_shared.manifest import OpUse, encode_manifest
from fleet_shared.messages.desired import Desired, Policy, RunEntry
from fleet_shared.messages.reported import Order, Running, RuntimeFact
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, DeviceId, digest_of
from fleet_shared.wire import encode
from tests.shared.messages.samples import DIGEST, MANIFEST, RUNNING

RAW = encode_manifest(MANIFEST)
NAME = digest_of(RAW)
LITERT = RuntimeFact(name="litert", version="2.3.0")
TFLITE = RuntimeFact(name="tflite_runtime", version="2.14.0")
OLD = msgspec.structs.replace(RUNNING, version="1.3.0", assignment=AssignmentId("old"))
OLDER = msgspec.structs.replace(RUNNING, version="1.2.0", assignment=AssignmentId("older"))
POINTERS = Pointers(active=OLD, previous=OLDER)
ENTRY = RunEntry(model=MANIFEST.model, version="1.4.0", manifest=NAME, assignment=AssignmentId("new"))
DESIRED = Desired(
    device=DeviceId("pi-1"), key_epoch=1, generation=7, serial=3, issued_ms=1, expires_ms=2,
    policy=Policy(soak_s=2.5, deadline_s=90.5), run=(ENTRY,),
)  # fmt: skip


def plan(
    current: UpdateRecord | None = None,
    *,
    expired: bool = False,
    runtimes: tuple[RuntimeFact, ...] = (LITERT,),
    **changes: Any,
) -> Nothing | Start | Accept:
    desired = msgspec.structs.replace(DESIRED, **changes)
    verified = DesiredVerified(desired=encode(desired), manifests={NAME: RAW}, expired=expired, now_ms=5)
    return plan_update(verified, current, POINTERS, runtimes, "boot", 1_000_000)


def started(**changes: Any) -> UpdateRecord:
    begun = plan(**changes)
    assert isinstance(begun, Start)
    return begun.record


def test_a_new_assignment_becomes_a_record_with_all_that_a_restart_needs() -> None:
    assert started() == UpdateRecord(
        entry=ENTRY,
        manifest=RAW,
        target=Running(
            model=MANIFEST.model, version="1.4.0", variant=MANIFEST.variant, manifest=NAME,
            assignment=AssignmentId("new"), runtime="litert",
        ),
        policy=Policy(soak_s=2.5, deadline_s=90.5),
        accepted=Order(key_epoch=1, generation=7, serial=3),
        state=UpdateState.DOWNLOADING,
        boot_id="boot",
        started_ms=1_000_000,
        saved_ms=1_000_000,
        deadline_ms=1_090_500,
        before=OLD,
        before_previous=OLDER,
    )  # fmt: skip


def test_expired_starts_nothing_not_even_a_newer_order() -> None:
    assert plan(expired=True) == Nothing("the desired state is expired")
    assert isinstance(plan(started(), expired=True, serial=9), Nothing)


def test_an_empty_run_is_ignored() -> None:
    assert isinstance(plan(run=()), Nothing)
    assert isinstance(plan(started(), run=(), generation=99), Nothing)


@pytest.mark.parametrize(
    "order", [(1, 7, 3), (1, 7, 2), (1, 6, 99), (0, 99, 99)], ids=["same", "serial", "generation", "epoch"]
)
def test_what_is_not_newer_is_ignored(order: tuple[int, int, int]) -> None:
    epoch, generation, serial = order
    entry = msgspec.structs.replace(ENTRY, assignment=AssignmentId("other"))
    found = plan(started(), key_epoch=epoch, generation=generation, serial=serial, run=(entry,))
    assert found == Nothing("nothing new is desired")


@pytest.mark.parametrize("order", [(1, 7, 4), (1, 8, 0), (2, 0, 0)], ids=["serial", "generation", "epoch"])
def test_the_same_assignment_signed_again_moves_the_order_only(order: tuple[int, int, int]) -> None:
    epoch, generation, serial = order
    newer = Order(key_epoch=epoch, generation=generation, serial=serial)
    assert plan(started(), key_epoch=epoch, generation=generation, serial=serial) == Accept(
        newer, DESIRED.policy
    )


def test_the_same_assignment_signed_again_may_bring_another_policy() -> None:
    larger = Policy(soak_s=2.5, deadline_s=500.0, bytes_max=10)
    accept = plan(started(), serial=4, policy=larger)
    assert isinstance(accept, Accept)
    record = started().ordered(accept.order, accept.policy)
    assert (record.policy, record.accepted.serial) == (larger, 4)
    assert record.deadline_ms - record.started_ms == 500_000
    same = started().ordered(accept.order, DESIRED.policy)
    assert same.deadline_ms == started().deadline_ms


def test_another_assignment_with_a_newer_order_starts_also_while_one_runs() -> None:
    entry = msgspec.structs.replace(ENTRY, assignment=AssignmentId("next"))
    found = plan(started(), generation=8, run=(entry,))
    assert isinstance(found, Start)
    assert found.record.entry.assignment == "next"


def test_the_first_runtime_that_nothing_speaks_against_is_chosen() -> None:
    old = RuntimeFact(name="tflite_runtime", version="2.13.0")
    assert started(runtimes=(TFLITE, LITERT)).target.runtime == "tflite_runtime"
    assert started(runtimes=(LITERT, TFLITE)).target.runtime == "litert"
    assert started(runtimes=(old, LITERT)).target.runtime == "litert"
    assert started(runtimes=(old,)).target.runtime == ""
    assert started(runtimes=()).target.runtime == ""
    dense = OpUse(name="FULLY_CONNECTED", version=12)
    contract = msgspec.structs.replace(MANIFEST.contract, ops=(dense,))
    assert choose_runtime(contract, (TFLITE, LITERT)) == "litert"
    assert choose_runtime(contract, (TFLITE,)) is None


def test_why_no_runtime_can_run_it_is_said_for_each() -> None:
    old = RuntimeFact(name="tflite_runtime", version="2.13.0")
    failure = explain_no_runtime(MANIFEST.contract, (RuntimeFact(name="abacus", version="1"), old))
    assert failure.code == "runtime.incompatible"
    assert "abacus" in failure.message
    assert "2.13.0 is older" in failure.message
    assert "[litert]" in failure.hint
    assert "none is installed" in explain_no_runtime(MANIFEST.contract, ()).message


def test_a_manifest_that_was_not_verified_is_never_used() -> None:
    entry = msgspec.structs.replace(ENTRY, manifest=DIGEST)
    with pytest.raises(KeyError):
        plan(run=(entry,))
