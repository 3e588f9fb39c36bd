"""Routes about builds on shared workers: for whoever wants one, and for the workers."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from fleet_cloud.client.views import (
    BuildClaimRequest,
    BuildClaimView,
    BuildEventView,
    BuildJobRequest,
    BuildJobView,
    BuildReportRequest,
    Page,
)
from fleet_cloud.domain.builds import BuildJob
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.bodies import Body, answer, parse
from fleet_cloud.entrypoints.api.roles import needs
from fleet_cloud.services.builds import BuildJobs, Report
from fleet_shared.names import parse_digest

Operator = Annotated[Actor, needs(Role.OPERATOR)]
Limit = Annotated[int, Query(ge=1, le=1000)]


def build_routes(jobs: BuildJobs) -> APIRouter:
    router = APIRouter(prefix="/builds", tags=["builds"])

    @router.post("")
    def create(by: Operator, body: Body) -> Response:
        """``bundle``: a blob that is there already."""
        request = parse(BuildJobRequest, body)
        job = jobs.create(request.model, parse_digest(request.bundle), request.version, by)
        return answer(_show(job), 201)

    @router.get("", dependencies=[needs(Role.VIEWER)])
    def list_jobs(limit: Limit = 100) -> Response:
        """Newest first."""
        return answer([_show(job) for job in jobs.page(limit)])

    @router.post("/claims")
    def claim(by: Operator, body: Body) -> Response:
        """For workers: the oldest job that waits, if there is one."""
        claimed = jobs.claim(parse(BuildClaimRequest, body).worker, by)
        if claimed is None:
            return answer(BuildClaimView(job=None, bundle=None, lease_ms=jobs.lease_ms))
        return answer(BuildClaimView(job=_show(claimed), bundle=claimed.bundle, lease_ms=jobs.lease_ms))

    @router.get("/{job}", dependencies=[needs(Role.VIEWER)])
    def get(job: str) -> Response:
        return answer(_show(jobs.get(job)))

    @router.get("/{job}/events", dependencies=[needs(Role.VIEWER)])
    def events(job: str, after: Annotated[int, Query(ge=0, lt=2**31)] = 0, limit: Limit = 1000) -> Response:
        """What the build said, oldest first; ``after`` is the number of the last event of the page before."""
        found = jobs.events(job, after, limit)
        following = str(found[-1][0]) if len(found) == limit else None
        return answer(
            Page(items=[BuildEventView(seq=seq, event=event) for seq, event in found], next=following)
        )

    @router.post("/{job}/reports")
    def report(by: Operator, job: str, body: Body) -> Response:
        """For workers: what the build said since the last report; it keeps the job for another while."""
        request = parse(BuildReportRequest, body)
        said = Report(request.attempt, request.events, request.version, request.failure)
        return answer(_show(jobs.report(job, said, by)))

    @router.post("/{job}/cancellation")
    def cancel(by: Operator, job: str) -> Response:
        return answer(_show(jobs.cancel(job, by)))

    return router


def _show(job: BuildJob) -> BuildJobView:
    return BuildJobView(
        id=job.id,
        model=job.model,
        state=job.state.value,
        version=job.version,
        attempt=job.attempt,
        worker=job.worker,
        created_ms=job.created_ms,
        created_by=job.created_by,
        failure=job.failure,
    )
