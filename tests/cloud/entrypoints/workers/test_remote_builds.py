"""Builds on shared workers over the HTTP API, up to the point where the factory would start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.client.views import BuildReportRequest
from fleet_cloud.entrypoints.cli.builds import queue_build, watch_build
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.workers.remote_builds import BuildWorker
from fleet_cloud.errors import BuildError, Conflict
from fleet_shared.messages.reported import Failure
from tests.kit.api import running_api
from tests.kit.people import KIT_TOKEN

WARNED = '{"type":"Warned","message":"mind the gap"}'
REGISTERED = '{"type":"Registered","model":"digits","version":"1.2.0","created":true}'


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield Connection(api.url, KIT_TOKEN)


def recipe(folder: Path, text: str = "model: digits\n") -> Path:
    (folder / "net.py").write_text("def make(shape, outputs): ...\n")
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_a_worker_refuses_the_code_of_others_and_the_watcher_reads_why(
    connection: Connection, tmp_path: Path
) -> None:
    text = "model: digits\narchitecture: {kind: python, path: net.py, function: make}\n"
    job = queue_build(connection, recipe(tmp_path, text), None)
    said: list[str] = []
    BuildWorker(connection, "one", say=said.append).run(once=True)
    with pytest.raises(BuildError) as refused:
        watch_build(connection, job.id)
    assert refused.value.code == "model.code"
    assert any("failed" in line for line in said)


def test_only_the_worker_is_told_where_the_data_is(connection: Connection, tmp_path: Path) -> None:
    job = queue_build(connection, recipe(tmp_path), None)
    with connection.open() as client:
        claim = client.claim_build("one")
        assert claim.bundle is not None
        shown = client._http.get(f"/api/v1/builds/{job.id}").text
        assert claim.bundle not in shown
        assert claim.bundle not in client._http.get("/api/v1/builds").text
        client.cancel_build(job.id)


def test_a_watcher_sees_what_the_worker_says_up_to_the_version(
    connection: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = queue_build(connection, recipe(tmp_path), "1.2.0")
    with connection.open() as client:
        claimed = client.claim_build("one").job
        assert claimed is not None
        assert (claimed.id, claimed.version, claimed.attempt) == (job.id, "1.2.0", 1)
        report = BuildReportRequest(attempt=1, events=[WARNED, REGISTERED], version="1.2.0")
        assert client.report_build(job.id, report).state == "succeeded"
        assert client.claim_build("one").job is None
    assert watch_build(connection, job.id).version == "1.2.0"
    shown = capsys.readouterr().err
    assert f"build {job.id} waits" in shown
    assert "mind the gap" in shown


def test_a_cancelled_build_ends_the_watching_and_is_lost_to_its_worker(
    connection: Connection, tmp_path: Path
) -> None:
    job = queue_build(connection, recipe(tmp_path), None)
    with connection.open() as client:
        assert client.claim_build("one").job is not None
        assert client.cancel_build(job.id).state == "cancelled"
        with pytest.raises(Conflict) as lost:
            client.report_build(job.id, BuildReportRequest(attempt=1, failure=Failure(code="x", message="y")))
    assert lost.value.code == "build.job.lost"
    with pytest.raises(BuildError) as ended:
        watch_build(connection, job.id)
    assert ended.value.code == "build.job.cancelled"
