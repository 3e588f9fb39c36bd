"""Rollouts side by side: none blocks another, the newest push wins, and the end is what devices said."""

import base64
import json
from dataclasses import replace

import msgspec
import pytest

from fleet_cloud.domain.rollout import AssignmentState, RolloutId
from fleet_cloud.errors import Invalid
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId
from fleet_shared.version import ModelRef
from tests.kit.parts import ABLE, PI, Parts, outcome_batch
from tests.kit.people import ADMIN
from tests.kit.weights import clustered


@pytest.fixture
def fleet(parts: Parts) -> Parts:
    """One able device and two models."""
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    parts.registry.register("n", parts.draft(b"two"), ADMIN)
    return parts


def test_many_rollouts_that_wait_do_not_hold_up_a_later_one(fleet: Parts) -> None:
    fleet.add_device("silent", facts=None)
    waiting = [fleet.start(to="id=silent") for _ in range(25)]
    good = fleet.start(to="id=pi-1")
    fleet.tick.run()
    assert fleet.look(good) == ("running", {"pi-1": "pending"})
    assert fleet.look(waiting[0]) == ("running", {})


def test_a_rollout_that_cannot_be_decided_does_not_hold_up_the_others(fleet: Parts) -> None:
    broken = fleet.start()
    with fleet.uow.begin() as transaction:
        spoiled = replace(broken.rollout, id=RolloutId("spoiled"), policy=Policy(deadline_s=float("1e300")))
        transaction.rollouts.add(spoiled)
    good = fleet.start(to="id=pi-1")
    fleet.tick.run()
    assert fleet.look(good)[1] == {"pi-1": "pending"}


@pytest.mark.parametrize(
    "policy",
    [
        Policy(deadline_s=0.5),
        Policy(deadline_s=1e300),
        Policy(deadline_s=float("nan")),
        Policy(deadline_s=float("inf")),
        Policy(soak_s=-1),
        Policy(soak_s=1e9),
    ],
)
def test_times_out_of_range_are_refused_at_creation(fleet: Parts, policy: Policy) -> None:
    with pytest.raises(Invalid) as caught:
        fleet.rollouts.create(ModelRef.parse("m"), "all", None, policy, ADMIN)
    assert caught.value.code == "rollout.policy"
    assert caught.value.hint
    assert fleet.rollouts.page(10) == []


def test_an_older_rollout_that_is_still_at_work_does_not_overtake_a_newer_push(parts: Parts) -> None:
    for number in range(250):
        parts.add_device(f"d{number:03}")
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    old = parts.start(to="all")
    parts.registry.register("m", parts.draft(b"two"), ADMIN)
    new = parts.start(to="id=d249")
    for _ in range(3):
        parts.tick.run()
    assert parts.look(new) == ("running", {"d249": "pending"})
    assert parts.look(old)[1]["d249"] == "superseded"
    assert parts.look(old)[1]["d248"] == "pending"


def test_a_push_of_another_model_supersedes_what_the_device_was_told_before(fleet: Parts) -> None:
    first, second = fleet.push("m"), fleet.push("n")
    (message,) = fleet.outgoing()
    assert fleet.rollouts.get(first.rollout).assignments[0].state is AssignmentState.SUPERSEDED
    assert second.state is AssignmentState.PENDING
    assert second.id.encode() in signed_payload(message.payload)
    fleet.tick.run()
    assert fleet.rollouts.get(first.rollout).rollout.state == "failed"


def signed_payload(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])


def test_an_outcome_after_the_deadline_corrects_the_assignment_and_its_rollout(fleet: Parts) -> None:
    assignment = fleet.push()
    fleet.clock.at_ms += 60_000
    fleet.tick.run()
    fleet.tick.run()
    late = fleet.rollouts.get(assignment.rollout)
    assert (late.rollout.state, late.assignments[0].state) == ("failed", AssignmentState.TIMED_OUT)
    fleet.observe.telemetry(PI, outcome_batch(assignment.id, "update.succeeded", 1))
    fleet.tick.run()
    judged = fleet.rollouts.get(assignment.rollout)
    assert (judged.rollout.state, judged.assignments[0].state) == ("succeeded", AssignmentState.SUCCEEDED)
    states = [change.state for change in fleet.rollouts.history(assignment.id)]
    assert states == ["pending", "timed-out", "succeeded"]


def test_a_device_has_time_to_say_how_it_ended_at_its_deadline(fleet: Parts) -> None:
    assignment = fleet.push()
    fleet.clock.at_ms += 10_000 + 14_000
    fleet.tick.run()
    assert fleet.rollouts.get(assignment.rollout).assignments[0].state.is_open
    fleet.clock.at_ms += 1_001
    fleet.tick.run()
    assert fleet.rollouts.get(assignment.rollout).assignments[0].state is AssignmentState.TIMED_OUT


def test_the_next_generation_is_above_what_database_and_device_have_seen(fleet: Parts) -> None:
    first = fleet.push()
    reported = fleet.device().reported
    assert reported is not None
    assert first.order is not None
    ahead = msgspec.structs.replace(reported, accepted=Order(key_epoch=1, generation=41))
    fleet.observe.reported(PI, ahead)
    second = fleet.push()
    assert second.order == Order(key_epoch=1, generation=42)
    other_epoch = msgspec.structs.replace(reported, accepted=Order(key_epoch=9, generation=0))
    fleet.observe.reported(PI, other_epoch)
    assert fleet.push().order == Order(key_epoch=1, generation=43)


@pytest.mark.parametrize(
    ("says", "offered"),
    [
        ((), {"zstd"}),
        (("identity", "zstd"), {"zstd"}),
        (("identity", "zstd", "codebook"), {"zstd", "codebook"}),
    ],
)
def test_a_device_is_offered_what_it_says_it_decodes(
    parts: Parts, says: tuple[str, ...], offered: set[str]
) -> None:
    parts.add_device(facts=msgspec.structs.replace(ABLE, encodings=says))
    parts.registry.register("m", parts.draft(clustered(4000, 2)), ADMIN)
    parts.push()
    (message,) = parts.outgoing()
    (entry,) = json.loads(signed_payload(message.payload))["run"]
    assert {one["encoding"] for one in entry["encodings"]} == offered


def test_an_idle_tick_does_nothing(fleet: Parts) -> None:
    fleet.push()
    before = fleet.outgoing()
    assert fleet.tick.run() == 0
    assert fleet.outgoing() == before


def test_a_newer_message_is_not_lost_to_an_older_one_that_is_being_sent(fleet: Parts) -> None:
    """The publisher removes by number what it sent: a number must not come back."""
    fleet.push()
    (sending,) = fleet.outgoing()
    fleet.push()
    assert sending.id is not None
    with fleet.uow.begin() as transaction:
        transaction.outbox.remove([sending.id])
    (newer,) = fleet.outgoing()
    assert newer.payload != sending.payload
    assert newer.id != sending.id


def test_a_device_unknown_to_the_database_is_waited_for_then_refused(fleet: Parts) -> None:
    name = fleet.add_device("silent", facts=None)
    status = fleet.start(to="id=silent")
    fleet.tick.run()
    assert fleet.look(status) == ("running", {})
    fleet.clock.at_ms += 60_000
    fleet.tick.run()
    fleet.tick.run()
    assert fleet.look(status) == ("failed", {name: "refused"})
    assert name == DeviceId("silent")
