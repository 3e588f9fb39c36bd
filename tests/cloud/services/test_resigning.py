"""Desired states that are signed again, generations that are used up, versions that wait for signatures."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.errors import Conflict
from fleet_cloud.services.resigning import BEFORE_MS, Resigning, read_desired
from fleet_cloud.services.rollouts import Rollouts
from fleet_shared.limits import DESIRED_LIFE_S
from fleet_shared.messages.desired import Desired, Policy
from fleet_shared.messages.reported import Failure, Order, Progress
from fleet_shared.messages.telemetry import Event
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, digest_of
from fleet_shared.topics import Topics
from fleet_shared.version import ModelRef
from tests.kit.parts import PI, Parts, batch, outcome_batch
from tests.kit.people import ADMIN


@pytest.fixture
def fleet(parts: Parts) -> Parts:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    return parts


@pytest.fixture
def trust(fleet: Parts) -> ControllerTrust:
    assert isinstance(fleet.tick.trust, ControllerTrust)
    return fleet.tick.trust


@pytest.fixture
def resigning(fleet: Parts, trust: ControllerTrust) -> Resigning:
    return Resigning(fleet.uow, trust, fleet.clock, Topics())


def newest(fleet: Parts) -> Desired:
    (message,) = fleet.outgoing()
    return read_desired(message.payload)


def signer_of(envelope: bytes) -> str:
    return str(json.loads(envelope)["signatures"][0]["keyid"])


def test_a_desired_state_is_signed_again_before_it_ends(fleet: Parts, resigning: Resigning) -> None:
    assignment = fleet.push()
    first = newest(fleet)
    assert resigning.run() == 0
    fleet.clock.at_ms += DESIRED_LIFE_S * 1000 - BEFORE_MS + 1
    assert resigning.run() == 1
    again = newest(fleet)
    assert again.order == msgspec.structs.replace(first.order, serial=1)
    assert again.run == first.run
    assert again.policy == first.policy
    assert (again.issued_ms, again.expires_ms) == (
        fleet.clock.at_ms,
        fleet.clock.at_ms + DESIRED_LIFE_S * 1000,
    )
    assert resigning.run() == 0
    (known,) = fleet.rollouts.get(assignment.rollout).assignments
    assert (known.state, known.order) == (AssignmentState.PENDING, again.order)


def test_a_new_epoch_signs_again_what_is_open_or_succeeded(
    fleet: Parts, trust: ControllerTrust, resigning: Resigning
) -> None:
    assignment = fleet.push()
    fleet.observe.telemetry(PI, outcome_batch(assignment.id, "update.succeeded", 1))
    old = trust.standing().assignment_keyid
    trust.rotate("assignment", [])
    assert resigning.run() == 1
    (message,) = fleet.outgoing()
    again = read_desired(message.payload)
    assert again.order == Order(key_epoch=2, generation=1, serial=0)
    assert signer_of(message.payload) == trust.standing().assignment_keyid != old
    assert resigning.run() == 0
    assert fleet.push().order == Order(key_epoch=2, generation=2)


@pytest.mark.parametrize("outcome", ["update.failed", "update.rolled-back"])
def test_what_failed_is_not_told_again(
    fleet: Parts, trust: ControllerTrust, resigning: Resigning, outcome: str
) -> None:
    assignment = fleet.push()
    fleet.observe.telemetry(PI, outcome_batch(assignment.id, outcome, 1))
    before = newest(fleet)
    trust.rotate("assignment", [])
    assert resigning.run() == 1
    assert newest(fleet) == before
    assert resigning.run() == 0


def test_a_refusal_on_the_way_to_a_new_epoch_fails_nothing(
    fleet: Parts, trust: ControllerTrust, resigning: Resigning
) -> None:
    """The device learned of the new key before it had the document that is signed with it."""
    assignment = fleet.push()
    (message,) = fleet.outgoing()
    trust.rotate("assignment", [])
    refusal = Event(
        seq=1, boot_id="b", boot_ms=1, name="desired.refused",
        failure=Failure(code="trust.desired.signature", message="no"),
        detail={"envelope_sha256": digest_of(message.payload)},
    )  # fmt: skip
    observe = replace(fleet.observe, key_epoch=lambda: trust.key_epoch)
    observe.telemetry(PI, batch(refusal))
    (known,) = fleet.rollouts.get(assignment.rollout).assignments
    assert known.state is AssignmentState.PENDING
    resigning.run()
    (again,) = fleet.outgoing()
    spoiled = msgspec.structs.replace(refusal, seq=2, detail={"envelope_sha256": digest_of(again.payload)})
    observe.telemetry(PI, batch(spoiled, head=2))
    (known,) = fleet.rollouts.get(assignment.rollout).assignments
    assert known.state is AssignmentState.FAILED, "the newest document was refused"


def accept(fleet: Parts, order: Order, update: Progress | None = None) -> None:
    reported = fleet.device().reported
    assert reported is not None
    fleet.observe.reported(PI, msgspec.structs.replace(reported, accepted=order, update=update))


def test_a_generation_that_a_stolen_key_used_up_says_what_to_do_and_is_recovered_from(
    fleet: Parts, trust: ControllerTrust
) -> None:
    accept(fleet, Order(key_epoch=1, generation=2**63 - 1))
    failed = fleet.push()
    assert failed.state is AssignmentState.FAILED
    assert failed.failure is not None
    assert failed.failure.code == "desired.generation"
    assert "rotate assignment" in failed.failure.hint
    assert fleet.outgoing() == []
    trust.rotate("assignment", [])
    assert fleet.push().order == Order(key_epoch=2, generation=1)


def test_signing_again_goes_above_what_a_stolen_key_made_a_device_accept(
    fleet: Parts, trust: ControllerTrust, resigning: Resigning
) -> None:
    fleet.push()
    accept(fleet, Order(key_epoch=1, generation=70, serial=3))
    fleet.clock.at_ms += DESIRED_LIFE_S * 1000 - BEFORE_MS + 1
    assert resigning.run() == 1
    assert newest(fleet).order == Order(key_epoch=1, generation=71)
    accept(fleet, Order(key_epoch=1, generation=2**63 - 1))
    fleet.clock.at_ms += DESIRED_LIFE_S * 1000 - BEFORE_MS + 1
    before = newest(fleet)
    assert resigning.run() == 1
    assert resigning.run() == 0
    assert newest(fleet) == before
    trust.rotate("assignment", [])
    assert resigning.run() == 1
    assert newest(fleet).order == Order(key_epoch=2, generation=1)


def test_what_waits_goes_above_what_a_device_accepted_before_the_database_was_restored(
    fleet: Parts, resigning: Resigning
) -> None:
    """The push comes before the device has spoken: the restored database knows no better."""
    assignment = fleet.push()
    assert assignment.order == Order(key_epoch=1, generation=1)
    accept(fleet, Order(key_epoch=1, generation=30, serial=2))
    assert resigning.run() == 1
    assert newest(fleet).order == Order(key_epoch=1, generation=31)
    accept(fleet, Order(key_epoch=1, generation=31))
    assert resigning.run() == 0
    fleet.observe.telemetry(PI, outcome_batch(assignment.id, "update.succeeded", 1))
    accept(fleet, Order(key_epoch=1, generation=90))
    assert resigning.run() == 0, "a device that runs what is newer than the database is not turned back"


@pytest.mark.parametrize(
    ("name", "state", "signed_again"),
    [
        ("of-yesterday", UpdateState.SUCCEEDED, True),
        ("of-yesterday", UpdateState.SOAKING, False),
        ("", UpdateState.DOWNLOADING, False),
    ],
    ids=["at rest with another", "busy with another", "at it"],
)
def test_an_order_that_was_given_to_something_else_is_told_from_one_that_was_taken(
    fleet: Parts, resigning: Resigning, name: str, state: UpdateState, signed_again: bool
) -> None:
    """The restored database counts from where it was, and comes to a number that was given before."""
    assignment = fleet.push()
    assert assignment.order is not None
    accept(fleet, assignment.order, Progress(assignment=AssignmentId(name or assignment.id), state=state))
    assert resigning.run() == int(signed_again)
    assert newest(fleet).order == msgspec.structs.replace(assignment.order, serial=int(signed_again))


def test_batches_are_bounded_and_all_get_their_turn(
    fleet: Parts, trust: ControllerTrust, resigning: Resigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        fleet.add_device(f"d{number}")
    fleet.start(to="all")
    fleet.tick.run()
    trust.rotate("assignment", [])
    monkeypatch.setattr("fleet_cloud.services.resigning.BATCH", 5)
    assert [resigning.run(), resigning.run(), resigning.run()] == [5, 2, 0]
    assert {signer_of(message.payload) for message in fleet.outgoing()} == {trust.standing().assignment_keyid}


def test_a_version_that_waits_for_a_signature_is_not_pushed(fleet: Parts) -> None:
    class Waits:
        """The trust of a controller whose targets keys lie elsewhere."""

        def unsigned(self, manifests: list[str]) -> frozenset[str]:
            return frozenset(manifests)

    rollouts = Rollouts(fleet.uow, fleet.clock, fleet.rollouts.ids, Waits())  # type: ignore[arg-type]
    with pytest.raises(Conflict) as caught:
        rollouts.create(ModelRef.parse("m"), "all", None, Policy(), ADMIN)
    assert caught.value.code == "version.unsigned"
    assert "fleet trust sign" in caught.value.hint
    assert rollouts.page(10) == []


def test_versions_that_the_restored_repository_lacks_are_released_again(fleet: Parts, tmp_path: Path) -> None:
    other = ControllerTrust(tmp_path / "restored")
    registry = replace(fleet.registry, trust=other)
    assert registry.release_missing() == 1
    assert registry.release_missing() == 0


def test_the_payload_is_what_was_signed(fleet: Parts) -> None:
    assignment = fleet.push()
    (message,) = fleet.outgoing()
    document = json.loads(base64.b64decode(json.loads(message.payload)["payload"]))
    assert AssignmentId(document["run"][0]["assignment"]) == assignment.id
