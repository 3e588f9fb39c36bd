"""Who has a build, and what becomes of it."""

from dataclasses import replace

import pytest

from fleet_cloud.domain.builds import (
    ATTEMPTS_MAX,
    BuildJob,
    BuildState,
    claim,
    end,
    lapse,
    renew,
)
from fleet_shared.names import Digest, ModelName

LEASE_MS = 60_000
JOB = BuildJob(
    id="job-1", model=ModelName("m"), bundle=Digest("a" * 64), created_ms=1, created_by="ann", updated_ms=1
)


def test_a_lease_holds_up_to_its_last_millisecond_and_a_report_renews_it() -> None:
    job = claim(JOB, "one", 1000, LEASE_MS)
    assert (job.state, job.attempt, job.worker) == (BuildState.RUNNING, 1, "one")
    assert not job.has_lapsed(1000 + LEASE_MS)
    assert job.has_lapsed(1001 + LEASE_MS)
    assert not renew(job, 5000, LEASE_MS).has_lapsed(5000 + LEASE_MS)


def test_a_queued_or_ended_job_lapses_never() -> None:
    assert not JOB.has_lapsed(10**15)
    assert not end(claim(JOB, "one", 0, LEASE_MS), BuildState.SUCCEEDED, 1).has_lapsed(10**15)


def test_a_job_goes_to_another_worker_so_many_times() -> None:
    job = JOB
    for attempt in range(1, ATTEMPTS_MAX + 1):
        job = claim(job, f"worker-{attempt}", attempt * 10**6, LEASE_MS)
        assert job.is_held(attempt)
        assert not job.is_held(attempt - 1), "what an earlier worker says does not count"
        job = lapse(job, attempt * 10**6 + LEASE_MS + 1)
        assert job.state is (BuildState.QUEUED if attempt < ATTEMPTS_MAX else BuildState.FAILED)
    assert job.failure is not None
    assert job.failure.code == "build.job.attempts"
    assert f"worker-{ATTEMPTS_MAX}" in job.failure.message


@pytest.mark.parametrize("state", BuildState)
def test_only_a_running_job_is_held(state: BuildState) -> None:
    job = replace(claim(JOB, "one", 0, LEASE_MS), state=state)
    assert job.is_held(1) == (state is BuildState.RUNNING)
    assert state.is_open == (state in (BuildState.QUEUED, BuildState.RUNNING))


def test_an_end_keeps_the_version_that_was_wanted() -> None:
    wanted = replace(JOB, version="2.0.0")
    assert end(wanted, BuildState.CANCELLED, 5).version == "2.0.0"
    assert end(JOB, BuildState.SUCCEEDED, 5, version="1.4.0").version == "1.4.0"
