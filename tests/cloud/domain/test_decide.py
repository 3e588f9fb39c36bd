"""What a rollout does next: at its deadlines, with a forced variant, in each state of a device."""

from dataclasses import replace

import pytest

from fleet_cloud.domain.decide import Assign, Finish, Refuse, TimeOut, decide
from fleet_cloud.domain.rollout import CLOSED_STATES, AssignmentState, Observation, RolloutState
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import DeviceId, VariantName
from tests.cloud.domain.test_rules import ASSIGNMENT, FACTS, PI, ROLLOUT, VERSION, see, variant, version

LATER = replace(ROLLOUT, created_ms=5_000)
"""Made at 5 s with a deadline of 10 s: devices are waited for until 15 s."""
OTHER = DeviceId("pi-2")


def test_a_silent_device_is_waited_for_from_the_rollouts_own_start() -> None:
    assert decide(LATER, VERSION, [see(None, None)], 15_000) == []
    (action,) = decide(LATER, VERSION, [see(None, None)], 15_001)
    assert isinstance(action, Refuse)
    assert (action.device, action.state) == (PI, AssignmentState.REFUSED)
    assert action.failure.code == "assignment.never_seen"
    assert "10 s" in action.failure.message
    assert action.failure.hint


def test_an_assignment_has_a_deadline_of_its_own() -> None:
    late = Observation(PI, FACTS, replace(ASSIGNMENT, created_ms=50_000, deadline_ms=60_000))
    assert decide(LATER, VERSION, [late], 60_000) == []
    (action,) = decide(LATER, VERSION, [late], 60_001)
    assert isinstance(action, TimeOut)
    assert action.assignment == ASSIGNMENT.id
    assert action.failure.code == "assignment.deadline"


def test_what_the_device_said_last_is_part_of_the_reason() -> None:
    said = replace(ASSIGNMENT, failure=Failure(code="x", message="no route to host"))
    (action,) = decide(ROLLOUT, VERSION, [Observation(PI, FACTS, said)], 10_001)
    assert isinstance(action, TimeOut)
    assert "no route to host" in action.failure.message


def test_a_closed_assignment_has_no_deadline() -> None:
    for state in CLOSED_STATES:
        (action,) = decide(ROLLOUT, VERSION, [see(state)], 10**9)
        assert isinstance(action, Finish)


def test_a_forced_variant_is_sent_although_a_smaller_one_fits() -> None:
    both = version(variant("fp32", 100), variant("int8", 25))
    assert decide(ROLLOUT, both, [see(None)], 0) == [Assign(PI, VariantName("int8"), both.variants[1].digest)]
    forced = replace(ROLLOUT, variant=VariantName("fp32"))
    assert decide(forced, both, [see(None)], 0) == [Assign(PI, VariantName("fp32"), both.variants[0].digest)]


def test_a_forced_variant_that_does_not_fit_is_refused_and_no_other_is_sent() -> None:
    both = version(variant("fp32", 100, memory=10**6), variant("int8", 25))
    (action,) = decide(replace(ROLLOUT, variant=VariantName("fp32")), both, [see(None)], 0)
    assert isinstance(action, Refuse)
    assert (action.failure.code, action.state) == ("variant.none_fits", AssignmentState.REFUSED)
    assert "int8" not in action.failure.message


def test_an_overtaken_device_is_left_to_the_newer_rollout_whether_it_spoke_or_not() -> None:
    for facts in (None, FACTS):
        (action,) = decide(ROLLOUT, VERSION, [Observation(PI, facts, None, overtaken=True)], 0)
        assert isinstance(action, Refuse)
        assert (action.state, action.failure.code) == (
            AssignmentState.SUPERSEDED,
            "assignment.superseded",
        )


def test_each_device_is_decided_on_its_own_and_the_end_waits_for_all() -> None:
    waiting = Observation(OTHER, None, None)
    assert decide(ROLLOUT, VERSION, [see(AssignmentState.SUCCEEDED), waiting], 0) == []
    (action,) = decide(ROLLOUT, VERSION, [see(AssignmentState.SUCCEEDED), replace(waiting, facts=FACTS)], 0)
    assert isinstance(action, Assign)
    assert action.device == OTHER


def test_the_states_of_an_assignment() -> None:
    assert {state.value for state in CLOSED_STATES} == {
        "succeeded", "failed", "rolled-back", "refused", "superseded", "timed-out",
    }  # fmt: skip
    named = {state: AssignmentState.of_update(state) for state in UpdateState}
    assert {state for state, meaning in named.items() if meaning is None} == {
        UpdateState.IDLE,
        UpdateState.UNKNOWN,
    }
    assert all(meaning.value == state.value for state, meaning in named.items() if meaning is not None)


@pytest.mark.parametrize("state", [RolloutState.SUCCEEDED, RolloutState.FAILED])
def test_a_rollout_that_ended_is_not_ended_again(state: RolloutState) -> None:
    assert decide(replace(ROLLOUT, state=state), VERSION, [see(AssignmentState.SUCCEEDED)], 0) == []
