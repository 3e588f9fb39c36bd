"""Jobs for shared workers, on both databases."""

import json

import pytest

from fleet_cloud.domain.builds import ATTEMPTS_MAX, BuildJob
from fleet_cloud.errors import Conflict, Invalid, NotFound
from fleet_cloud.services.builds import EVENT_CHARS, BuildJobs, Report
from fleet_shared.messages.reported import Failure
from fleet_shared.names import Digest
from tests.kit.parts import Counting, Parts
from tests.kit.people import ADMIN

LEASE_MS = 60_000


@pytest.fixture
def jobs(parts: Parts) -> BuildJobs:
    return BuildJobs(parts.uow, parts.blobs.store, parts.clock, Counting(), LEASE_MS)


def add(parts: Parts, jobs: BuildJobs, model: str = "m") -> BuildJob:
    parts.clock.at_ms += 1
    return jobs.create(model, parts.put(model.encode()).sha256, None, ADMIN)


def claimed(jobs: BuildJobs, worker: str = "one") -> BuildJob:
    job = jobs.claim(worker, ADMIN)
    assert job is not None
    return job


def test_the_oldest_job_is_given_once(parts: Parts, jobs: BuildJobs) -> None:
    first, second = add(parts, jobs, "m"), add(parts, jobs, "n")
    assert [claimed(jobs).id, claimed(jobs).id] == [first.id, second.id]
    assert jobs.claim("one", ADMIN) is None
    assert [job.id for job in jobs.page(10)] == [second.id, first.id]


def test_a_build_without_its_bundle_is_refused(jobs: BuildJobs) -> None:
    with pytest.raises(NotFound) as refused:
        jobs.create("m", Digest("b" * 64), None, ADMIN)
    assert refused.value.code == "blob.unknown"


def test_what_it_says_comes_back_in_order_up_to_its_version(parts: Parts, jobs: BuildJobs) -> None:
    job = add(parts, jobs)
    attempt = claimed(jobs).attempt
    jobs.report(job.id, Report(attempt, ["1", "2"]), ADMIN)
    jobs.report(job.id, Report(attempt), ADMIN)
    ended = jobs.report(job.id, Report(attempt, ["3"], version="1.2.0"), ADMIN)
    assert (ended.state, ended.version) == ("succeeded", "1.2.0")
    assert jobs.events(job.id, 0, 2) == [(1, "1"), (2, "2")]
    assert jobs.events(job.id, 2, 10) == [(3, "3")]
    with pytest.raises(Conflict):
        jobs.report(job.id, Report(attempt, ["4"]), ADMIN)
    assert jobs.get(job.id) == ended


def test_a_silent_worker_loses_the_job_to_the_next_that_asks(parts: Parts, jobs: BuildJobs) -> None:
    job = add(parts, jobs)
    first = claimed(jobs, "one")
    parts.clock.at_ms += LEASE_MS
    assert jobs.claim("two", ADMIN) is None, "the lease holds"
    jobs.report(job.id, Report(first.attempt), ADMIN)
    parts.clock.at_ms += LEASE_MS
    assert jobs.claim("two", ADMIN) is None, "it was renewed"
    parts.clock.at_ms += 1
    second = claimed(jobs, "two")
    assert (second.id, second.attempt, second.worker) == (job.id, 2, "two")
    with pytest.raises(Conflict) as lost:
        jobs.report(job.id, Report(first.attempt, version="1.0.0"), ADMIN)
    assert lost.value.code == "build.job.lost"
    ((_, said),) = jobs.events(job.id, 0, 10)
    assert "one went silent" in json.loads(said)["message"]


def test_what_kills_every_worker_is_given_up(parts: Parts, jobs: BuildJobs) -> None:
    job = add(parts, jobs)
    for _ in range(ATTEMPTS_MAX):
        claimed(jobs)
        parts.clock.at_ms += LEASE_MS + 1
    assert jobs.claim("one", ADMIN) is None
    ended = jobs.get(job.id)
    assert ended.state == "failed"
    assert ended.failure is not None
    assert ended.failure.code == "build.job.attempts"


def test_a_failure_is_final_and_a_cancelled_job_is_lost(parts: Parts, jobs: BuildJobs) -> None:
    failing, other = add(parts, jobs, "m"), add(parts, jobs, "n")
    failure = Failure(code="build.gate", message="too large")
    assert jobs.report(failing.id, Report(claimed(jobs).attempt, failure=failure), ADMIN).failure == failure
    attempt = claimed(jobs).attempt
    assert jobs.cancel(other.id, ADMIN).state == "cancelled"
    assert jobs.cancel(other.id, ADMIN).state == "cancelled"
    assert jobs.cancel(failing.id, ADMIN).state == "failed", "what has ended stays as it is"
    with pytest.raises(Conflict):
        jobs.report(other.id, Report(attempt), ADMIN)


def test_unknown_jobs_and_endless_words_are_refused(parts: Parts, jobs: BuildJobs) -> None:
    for ask in (
        lambda: jobs.get("none"),
        lambda: jobs.events("none", 0, 1),
        lambda: jobs.cancel("none", ADMIN),
    ):
        with pytest.raises(NotFound) as refused:
            ask()
        assert refused.value.code == "build.job.unknown"
    add(parts, jobs)
    job = claimed(jobs)
    with pytest.raises(Invalid):
        jobs.report(job.id, Report(job.attempt, ["x" * (EVENT_CHARS + 1)]), ADMIN)


def test_every_step_is_in_the_audit_log(parts: Parts, jobs: BuildJobs) -> None:
    job = add(parts, jobs)
    jobs.report(job.id, Report(claimed(jobs).attempt, version="1.0.0"), ADMIN)
    jobs.cancel(add(parts, jobs, "n").id, ADMIN)
    with parts.uow.read() as transaction:
        actions = [one.entry.action for one in transaction.audit.page(0, 100)]
    assert [action for action in actions if action.startswith("build.")] == [
        "build.create",
        "build.claim",
        "build.end",
        "build.create",
        "build.cancel",
    ]
