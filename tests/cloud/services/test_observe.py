"""What devices say, and what the books say of it."""

import threading
from dataclasses import replace

import msgspec

from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.ports import TelemetryTotals
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Failure, Progress, Reported
from fleet_shared.messages.telemetry import Event, Sample, Source, TelemetryBatch
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import DeviceId, digest_of
from tests.kit.parts import ABLE, PI, Parts, batch, outcome_batch
from tests.kit.people import ADMIN


def sample(seq: int) -> Sample:
    return Sample(seq=seq, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": 1.0})


def online(parts: Parts) -> bool:
    return parts.device().online


def test_a_late_will_of_an_older_session_changes_nothing(parts: Parts) -> None:
    parts.add_device()
    parts.observe.presence(PI, Presence(session="s1", online=True))
    parts.observe.presence(PI, Presence(session="s2", online=True))
    parts.observe.presence(PI, Presence(session="s1", online=False))
    assert online(parts)
    parts.observe.presence(PI, Presence(session="s2", online=False))
    assert not online(parts)


def test_what_the_broker_retained_is_the_last_word_of_any_session(parts: Parts) -> None:
    parts.add_device()
    parts.observe.presence(PI, Presence(session="s1", online=True))
    parts.observe.presence(PI, Presence(session="s9", online=False), retained=True)
    assert not online(parts)


def test_an_old_picture_does_not_say_when_the_device_was_there(parts: Parts) -> None:
    parts.add_device()
    parts.observe.presence(PI, Presence(session="s", online=True))
    seen_ms = parts.device().last_seen_ms
    parts.clock.at_ms += 1_000_000
    connected_ms = parts.clock.at_ms
    parts.observe.presence(PI, Presence(session="s", online=True), retained=True)
    parts.observe.reported(PI, Reported(session="s", facts=ABLE), retained=True)
    assert parts.device().last_seen_ms == seen_ms
    parts.clock.at_ms += 200_000
    assert parts.observe.give_up_silent(connected_ms) == 1
    assert not online(parts)
    parts.observe.telemetry(PI, batch(sample(1)))
    assert online(parts), "it speaks again within its session"
    parts.observe.presence(PI, Presence(session="s", online=False))
    parts.observe.telemetry(PI, batch(sample(2)))
    assert not online(parts), "rows that were read late do not bring a device back"


def test_a_device_that_is_silent_since_the_broker_is_back_is_offline(parts: Parts) -> None:
    parts.add_device()
    parts.add_device("pi-2")
    for name in (PI, DeviceId("pi-2")):
        parts.observe.presence(name, Presence(session="s", online=True))
    connected_ms = parts.clock.at_ms = parts.clock.at_ms + 5_000
    parts.clock.at_ms += 10_000
    parts.observe.telemetry(DeviceId("pi-2"), batch(sample(1)))
    assert parts.observe.give_up_silent(connected_ms) == 0, "they have time to come back"
    parts.clock.at_ms += 200_000
    assert parts.observe.give_up_silent(connected_ms) == 1
    assert not online(parts)
    assert parts.device(DeviceId("pi-2")).online


def test_a_report_moves_its_own_assignment_only(parts: Parts) -> None:
    parts.add_device()
    parts.add_device("pi-2")
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push(to="id=pi-1")

    def say(device: DeviceId, state: UpdateState) -> bool:
        progress = Progress(assignment=assignment.id, state=state, bytes_done=3, bytes_total=9)
        return parts.observe.reported(device, Reported(session="s", facts=ABLE, update=progress))

    assert say(DeviceId("pi-2"), UpdateState.FAILED) is False
    assert say(PI, UpdateState.DOWNLOADING) is False
    (found,) = parts.rollouts.get(assignment.rollout).assignments
    assert (found.state, found.bytes_done) == (AssignmentState.DOWNLOADING, 3)
    assert say(PI, UpdateState.SUCCEEDED) is True
    assert say(PI, UpdateState.FAILED) is False
    (found,) = parts.rollouts.get(assignment.rollout).assignments
    assert found.state is AssignmentState.SUCCEEDED


def refusal(name: str, envelope: bytes, seq: int = 1) -> TelemetryBatch:
    failure = Failure(code="trust.metadata.invalid", message="expired")
    detail: dict[str, str | int | float | bool | None] = {"envelope_sha256": digest_of(envelope)}
    return batch(Event(seq=seq, boot_id="b", boot_ms=1, name=name, failure=failure, detail=detail))


def test_a_desired_state_that_the_device_refuses_fails_its_assignment_with_the_reason(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push()
    (message,) = parts.outgoing()
    _, moved = parts.observe.telemetry(PI, refusal("desired.refused", b"a stranger's"))
    assert not moved, "what this controller did not sign says nothing about its assignments"
    _, moved = parts.observe.telemetry(PI, refusal("desired.unverified", message.payload, seq=2))
    (found,) = parts.rollouts.get(assignment.rollout).assignments
    assert found.state is AssignmentState.PENDING
    assert found.failure is not None
    assert found.failure.message == "expired"
    _, moved = parts.observe.telemetry(PI, refusal("desired.refused", message.payload, seq=3))
    assert moved
    (found,) = parts.rollouts.get(assignment.rollout).assignments
    assert found.state is AssignmentState.FAILED


def test_what_the_device_said_last_is_in_the_reason_of_a_time_out(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push()
    (message,) = parts.outgoing()
    parts.observe.telemetry(PI, refusal("desired.unverified", message.payload))
    parts.clock.at_ms += 60_000
    parts.tick.run()
    (found,) = parts.rollouts.get(assignment.rollout).assignments
    assert found.failure is not None
    assert found.failure.code == "assignment.deadline"
    assert "it last said: expired" in found.failure.message


def test_unmet_desired_states_are_put_on_their_way_again_and_met_ones_are_not(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push()
    (message,) = parts.outgoing()
    with parts.uow.begin() as transaction:
        transaction.outbox.remove([message.id or 0])
    assert parts.observe.republish_unmet() == 1
    assert [again.payload for again in parts.outgoing()] == [message.payload]
    parts.observe.telemetry(PI, outcome_batch(assignment.id, "update.succeeded", 1))
    assert parts.observe.republish_unmet() == 0


def test_a_batch_that_cannot_be_stored_goes_to_the_dead_letters_and_is_acknowledged(parts: Parts) -> None:
    parts.add_device()
    ack, _ = parts.observe.refuse_telemetry(PI, batch(sample(1), sample(2)), "database.data")
    assert ack is not None
    assert (ack.upto, [r.seq for r in ack.rejected]) == (2, [1, 2])
    totals = parts_totals(parts)
    assert (totals.rejected, totals.samples, totals.lost) == (2, 0, 0)
    ack, _ = parts.observe.telemetry(PI, batch(sample(3)))
    assert ack is not None
    assert ack.upto == 3


def parts_totals(parts: Parts) -> TelemetryTotals:
    with parts.uow.read() as transaction:
        return transaction.telemetry.totals(PI)


def test_what_another_outbox_of_the_device_held_is_counted_as_lost(parts: Parts) -> None:
    parts.add_device()
    parts.observe.telemetry(PI, batch(sample(1), sample(2), stream="old", outbox="a", head=9))
    assert (parts_totals(parts).pending, parts_totals(parts).lost) == (7, 0)
    parts.observe.telemetry(PI, batch(sample(10), stream="next", outbox="a", start=10))
    assert (parts_totals(parts).pending, parts_totals(parts).lost) == (7, 0), "the same file holds both"
    parts.observe.telemetry(PI, batch(sample(1), stream="new", outbox="b"))
    assert (parts_totals(parts).pending, parts_totals(parts).lost) == (0, 7)
    parts.observe.telemetry(PI, batch(sample(2), stream="new", outbox="b"))
    assert parts_totals(parts).lost == 7


def test_labels_and_presence_that_change_at_once_are_both_kept(parts: Parts) -> None:
    """Both read a device and write it back: the second must wait for the first."""
    parts.add_device()
    inside, go_on = threading.Event(), threading.Event()

    def go_online() -> None:
        with parts.uow.begin() as transaction:
            device = transaction.devices.lock(PI)
            assert device is not None
            inside.set()
            go_on.wait(10)
            transaction.devices.put(replace(device, online=True, session="s"))

    def set_label() -> None:
        Inventory(parts.uow, SystemClock()).label(PI, {"floor": "2"}, (), ADMIN)

    first = threading.Thread(target=go_online)
    first.start()
    assert inside.wait(10)
    second = threading.Thread(target=set_label)
    second.start()
    second.join(0.3)
    assert second.is_alive(), "it must wait for the one that holds the device"
    go_on.set()
    first.join()
    second.join()
    device = parts.device()
    assert (device.online, device.labels) == (True, {"site": "berlin", "floor": "2"})


def test_a_refused_row_leaves_the_good_ones_in_their_place(parts: Parts) -> None:
    parts.add_device()
    good = batch(sample(1), sample(2), sample(3))
    rows = (good.rows[0], msgspec.Raw(b'{"kind":"sample","seq":2,"wall_ms":1e99}'), good.rows[2])
    ack, _ = parts.observe.telemetry(PI, msgspec.structs.replace(good, rows=rows))
    assert ack is not None
    assert (ack.upto, [r.seq for r in ack.rejected]) == (3, [2])
    totals = parts_totals(parts)
    assert (totals.samples, totals.rejected) == (2, 1)
