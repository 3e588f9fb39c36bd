"""The update machine: which state follows which event, where a saved state resumes, how long and how
often each state may try.

Pure. The running model is not touched before `SWITCHING`; from there on the only ways out are
`SUCCEEDED` and `ROLLED_BACK`. A pair that the table does not name changes nothing: late and
repeated events are harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from fleet_shared.messages.update import UpdateState as S


class UpdateEvent(str, Enum):
    ACCEPTED = "accepted"
    DOWNLOADED = "downloaded"
    VERIFIED = "verified"
    SELF_TEST_PASSED = "self-test-passed"
    SWITCHED = "switched"
    SOAKED = "soaked"
    RESTORED = "restored"
    FAILED = "failed"
    DEADLINE_PASSED = "deadline-passed"
    SUPERSEDED = "superseded"


E = UpdateEvent

UNTOUCHED: Final = frozenset({S.DOWNLOADING, S.VERIFYING, S.SELF_TESTING})
"""States in which the running model was not touched yet: any failure just ends the update."""

TOUCHED: Final = frozenset({S.SWITCHING, S.SOAKING, S.ROLLING_BACK})
"""States in which the pointer may name the new model: any failure leads back to the old one."""

_STEPS: Final = {
    (S.IDLE, E.ACCEPTED): S.DOWNLOADING,
    (S.SUCCEEDED, E.ACCEPTED): S.DOWNLOADING,
    (S.FAILED, E.ACCEPTED): S.DOWNLOADING,
    (S.ROLLED_BACK, E.ACCEPTED): S.DOWNLOADING,
    (S.DOWNLOADING, E.DOWNLOADED): S.VERIFYING,
    (S.VERIFYING, E.VERIFIED): S.SELF_TESTING,
    (S.SELF_TESTING, E.SELF_TEST_PASSED): S.SWITCHING,
    (S.SWITCHING, E.SWITCHED): S.SOAKING,
    (S.SOAKING, E.SOAKED): S.SUCCEEDED,
    (S.ROLLING_BACK, E.RESTORED): S.ROLLED_BACK,
    # The pointer may or may not have been written: going back is right in both cases.
    (S.SWITCHING, E.FAILED): S.ROLLING_BACK,
    (S.SWITCHING, E.DEADLINE_PASSED): S.ROLLING_BACK,
    (S.SOAKING, E.FAILED): S.ROLLING_BACK,
    (S.SOAKING, E.DEADLINE_PASSED): S.ROLLING_BACK,
}
# Absent on purpose: SUPERSEDED once the switch began (the newer one waits: half a switch is worse
# than a late one), and any failure of ROLLING_BACK (there is nowhere else to go; it is tried again).

_ENDS: Final = {
    (state, event): S.FAILED for state in UNTOUCHED for event in (E.FAILED, E.DEADLINE_PASSED, E.SUPERSEDED)
}

TRANSITIONS: Final[Mapping[tuple[S, UpdateEvent], S]] = MappingProxyType(_STEPS | _ENDS)


def next_state(state: S, event: UpdateEvent) -> S:
    """Return the state after ``event``; the same state when the table does not name the pair."""
    return TRANSITIONS.get((state, event), state)


RESUME: Final[Mapping[S, S]] = MappingProxyType(
    {
        S.IDLE: S.IDLE,
        # Before the switch everything starts over: what is whole on disk is not fetched again,
        # and only the effects themselves know what is whole.
        S.DOWNLOADING: S.DOWNLOADING,
        S.VERIFYING: S.DOWNLOADING,
        S.SELF_TESTING: S.DOWNLOADING,
        # Saved before the pointer was written; `resume_state` looks at the pointer.
        S.SWITCHING: S.DOWNLOADING,
        S.SOAKING: S.SOAKING,
        S.ROLLING_BACK: S.ROLLING_BACK,
        S.SUCCEEDED: S.SUCCEEDED,
        S.FAILED: S.FAILED,
        S.ROLLED_BACK: S.ROLLED_BACK,
        # A newer agent wrote it. Going back is right wherever that agent was.
        S.UNKNOWN: S.ROLLING_BACK,
    }
)


def resume_state(saved: S, *, switched: bool) -> S:
    """Return where to go on after a crash in ``saved``.

    ``switched`` tells whether the pointer on disk names the new model. It settles what the saved
    state cannot know: whether the crash came before or after the write of the pointer. A soak of a
    model that the pointer does not name (it was damaged) is none: what it names is what runs.
    """
    if saved is S.SWITCHING and switched:
        return S.SOAKING
    if saved is S.SOAKING and not switched:
        return S.ROLLING_BACK
    return RESUME[saved]


def settle_state(saved: S, *, switched: bool) -> S:
    """Return how an update ended whose outcome was stored, but not its record (a full disk).

    Nothing but the end itself wrote the pointer since: it tells a success from a return.
    """
    if switched:
        return S.SUCCEEDED
    return S.ROLLED_BACK if saved in TOUCHED else S.FAILED


RESUMES_MAX: Final = 5
DOWNLOAD_RESUMES_MAX: Final = 100


def is_looping(saved: S, resumes: int) -> bool:
    """Whether an update was resumed more often than an honest power supply explains.

    ``resumes`` counts starts of the agent within one update: all of them for a download, which makes
    progress at each start and may be cut often, else those after the download. What comes after it
    takes seconds, so that a sixth restart there means that the update itself brings the device down.
    A return is never judged: there is nothing better to do than to finish it.
    """
    if saved is S.ROLLING_BACK:
        return False
    return resumes > (DOWNLOAD_RESUMES_MAX if saved is S.DOWNLOADING else RESUMES_MAX)


@dataclass(frozen=True)
class Limit:
    """``within_s``: how long a state may last, beside the deadline of the whole update; none where only
    that one counts. ``tries``: how often its effect may be run; none for as often as it takes. ``code``
    names a state that did not end in time."""

    within_s: float | None
    tries: int | None
    code: str


LIMITS: Final[Mapping[S, Limit]] = MappingProxyType(
    {
        # Slow links are honest: each blob has its own budget of tries without progress
        # (`transfer.policy`), and the whole update its deadline.
        S.DOWNLOADING: Limit(within_s=None, tries=2, code="update.downloading"),
        # With a benchmark every runtime compiles, loads and runs the model within it.
        S.VERIFYING: Limit(within_s=1800.0, tries=2, code="update.verifying"),
        # The worker's own leash (`worker_ready_s`, half an hour at most) comes first: this one is for what
        # no leash sees.
        S.SELF_TESTING: Limit(within_s=2100.0, tries=3, code="update.self_testing"),
        # One write: what cannot be written at once is taken back at once.
        S.SWITCHING: Limit(within_s=60.0, tries=1, code="update.switching"),
        # Until the new worker serves, which loads once more after a restart of the agent; from there on the
        # trial has its own end.
        S.SOAKING: Limit(within_s=2100.0, tries=1, code="update.soaking"),
        # There is nowhere else to go: it is tried for ever, and said to be stuck.
        S.ROLLING_BACK: Limit(within_s=60.0, tries=None, code="update.stuck"),
    }
)
"""One for each state that does something. Seconds count while the agent's loop runs: a machine that
slept is no update's fault."""

PASSING: Final = frozenset({"worker.start", "disk.failed"})
"""Codes of troubles that may be over a moment later: no process or memory just now, a read error."""


def is_retried(state: S, code: str, tries: int) -> bool:
    """Whether a failure in a state whose effect was run ``tries`` times is tried again."""
    limit = LIMITS.get(state)
    return limit is not None and code in PASSING and (limit.tries is None or tries < limit.tries)


def is_late(state: S, seconds: float) -> bool:
    """Whether a state lasts more than it may."""
    limit = LIMITS.get(state)
    return limit is not None and limit.within_s is not None and seconds > limit.within_s
