"""The update machine: total, and safe whatever happens in whatever order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_agent.update.machine import (
    RESUME,
    TOUCHED,
    TRANSITIONS,
    UNTOUCHED,
    UpdateEvent,
    is_looping,
    next_state,
    resume_state,
    settle_state,
)
from fleet_shared.messages.update import FINAL_STATES
from fleet_shared.messages.update import UpdateState as S

HAPPY = [
    (UpdateEvent.ACCEPTED, S.DOWNLOADING),
    (UpdateEvent.DOWNLOADED, S.VERIFYING),
    (UpdateEvent.VERIFIED, S.SELF_TESTING),
    (UpdateEvent.SELF_TEST_PASSED, S.SWITCHING),
    (UpdateEvent.SWITCHED, S.SOAKING),
    (UpdateEvent.SOAKED, S.SUCCEEDED),
]


def test_the_straight_way() -> None:
    state = S.IDLE
    for event, expected in HAPPY:
        state = next_state(state, event)
        assert state is expected


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("event", list(UpdateEvent))
def test_every_pair_has_an_answer_and_failures_end_on_the_right_side(state: S, event: UpdateEvent) -> None:
    after = next_state(state, event)
    assert after in S
    if event in (UpdateEvent.FAILED, UpdateEvent.DEADLINE_PASSED):
        if state in UNTOUCHED:
            assert after is S.FAILED
        if state in (S.SWITCHING, S.SOAKING):
            assert after is S.ROLLING_BACK
    if state in FINAL_STATES and event is not UpdateEvent.ACCEPTED:
        assert after is state


@given(st.lists(st.sampled_from([event for event in UpdateEvent if event is not UpdateEvent.ACCEPTED])))
def test_once_the_switch_began_an_update_never_just_fails(events: list[UpdateEvent]) -> None:
    state, touched = S.DOWNLOADING, False
    for event in events:
        state = next_state(state, event)
        touched = touched or state in TOUCHED
        assert not (touched and state is S.FAILED)
        assert touched or state not in (S.SUCCEEDED, S.ROLLED_BACK)


def test_a_newer_assignment_waits_for_the_end_of_a_switch() -> None:
    for state in TOUCHED:
        assert next_state(state, UpdateEvent.SUPERSEDED) is state


def test_the_resume_map_is_total_and_only_the_pointer_settles_a_switch() -> None:
    assert set(RESUME) == set(S)
    assert resume_state(S.SWITCHING, switched=True) is S.SOAKING
    assert resume_state(S.SWITCHING, switched=False) is S.DOWNLOADING
    assert resume_state(S.UNKNOWN, switched=False) is S.ROLLING_BACK
    assert resume_state(S.SOAKING, switched=True) is S.SOAKING
    assert resume_state(S.SOAKING, switched=False) is S.ROLLING_BACK
    for state in FINAL_STATES:
        assert resume_state(state, switched=True) is state
    assert all(target in S for target in TRANSITIONS.values())


def test_a_download_may_be_cut_often_but_a_self_test_may_not() -> None:
    assert not is_looping(S.DOWNLOADING, 100)
    assert is_looping(S.DOWNLOADING, 101)
    assert not is_looping(S.SELF_TESTING, 5)
    assert is_looping(S.SELF_TESTING, 6)


def test_a_return_is_never_given_up() -> None:
    assert not is_looping(S.ROLLING_BACK, 1000)


def test_an_update_whose_end_was_not_saved_ended_as_the_pointer_says() -> None:
    for state in set(S) - FINAL_STATES:
        assert settle_state(state, switched=True) is S.SUCCEEDED
        assert settle_state(state, switched=False) in (S.FAILED, S.ROLLED_BACK)
    assert settle_state(S.SOAKING, switched=False) is S.ROLLED_BACK
    assert settle_state(S.SELF_TESTING, switched=False) is S.FAILED
