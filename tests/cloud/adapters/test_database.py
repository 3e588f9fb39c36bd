"""The unit of work and the services over it, on SQLite and PostgreSQL alike."""

import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from fleet_cloud.adapters.db.engine import MIGRATIONS, mapped_errors, migrate, open_engine
from fleet_cloud.adapters.db.tables import metadata
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.rollout import AssignmentState, RolloutState
from fleet_cloud.errors import Conflict, Invalid, NotFound, Unavailable
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.messages.fetch import Fetch
from fleet_shared.messages.telemetry import Sample, Source, TelemetryBatch, encode_row
from fleet_shared.names import AssignmentId, DeviceId, Digest
from fleet_shared.version import ModelRef
from tests.kit.parts import PI, Parts, outcome_batch
from tests.kit.people import ADMIN


def test_the_migrations_give_the_tables_of_the_code(empty_url: str) -> None:
    engine = open_engine(empty_url)
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_migration_can_be_undone_and_made_again(empty_url: str) -> None:
    engine = open_engine(empty_url)
    migrate(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) != []
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_failed_transaction_leaves_nothing(parts: Parts) -> None:
    def fail_half_way() -> None:
        with parts.uow.begin() as transaction:
            transaction.devices.put(Device(id=PI, enrolled_ms=1, public_key_sha256=Digest("a" * 64)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with parts.uow.begin() as transaction:
        assert transaction.devices.get(PI) is None


def test_versions_count_up_and_the_same_content_is_the_same_version(parts: Parts) -> None:
    first = parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assert (str(first.version.version), first.created) == ("1.0.0", True)
    again = parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assert (str(again.version.version), again.created) == ("1.0.0", False)
    assert str(parts.registry.register("m", parts.draft(b"two"), ADMIN).version.version) == "1.1.0"
    with pytest.raises(Conflict) as caught:
        parts.registry.register("m", parts.draft(b"three", "1.1.0"), ADMIN)
    assert caught.value.code == "model.version.exists"
    assert str(parts.registry.get(ModelRef.parse("m")).version) == "1.1.0"


def test_a_version_needs_all_its_blobs(parts: Parts) -> None:
    draft = parts.draft(b"one")
    missing = BlobRef(sha256=Digest("0" * 64), size_bytes=3)
    broken = msgspec.structs.replace(
        draft.variants[0], blobs={**draft.variants[0].blobs, Role.MODEL: missing}
    )
    with pytest.raises(Invalid) as caught:
        parts.registry.register("m", msgspec.structs.replace(draft, variants=(broken,)), ADMIN)
    assert caught.value.code == "model.blob.missing"
    with pytest.raises(NotFound):
        parts.registry.get(ModelRef.parse("m"))


def test_two_registrations_at_once_give_one_version(parts: Parts) -> None:
    draft = parts.draft(b"one")
    results: list[str] = []
    together = threading.Barrier(2, timeout=20)

    def register() -> None:
        together.wait()
        results.append(str(parts.registry.register("m", draft, ADMIN).version.version))

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["1.0.0", "1.0.0"]
    assert len(parts.registry.versions(ModelRef.parse("m").model)) == 1


def test_a_push_ends_when_the_outcome_comes_and_a_late_duplicate_changes_nothing(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    assignment = parts.push()
    assert assignment.state is AssignmentState.PENDING
    with parts.uow.begin() as transaction:
        (message,) = transaction.outbox.pending(10)
    assert message.topic == "fleet/v1/devices/pi-1/desired"
    assert message.retain
    assert parts.tick.run() == 0
    ack, moved = parts.observe.telemetry(PI, outcome_batch(assignment.id, "update.succeeded", 1))
    assert ack is not None
    assert moved
    assert ack.upto == 1
    parts.observe.telemetry(PI, outcome_batch(assignment.id, "update.failed", 2))
    parts.tick.run()
    status = parts.rollouts.get(assignment.rollout)
    assert status.rollout.state is RolloutState.SUCCEEDED
    assert [a.state for a in status.assignments] == [AssignmentState.SUCCEEDED]


def test_a_newer_push_supersedes_and_the_generation_goes_up(parts: Parts) -> None:
    parts.add_device()
    parts.registry.register("m", parts.draft(b"one"), ADMIN)
    first = parts.push()
    second = parts.push()
    assert first.order is not None
    assert second.order is not None
    assert second.order.generation == first.order.generation + 1
    old = parts.rollouts.get(first.rollout)
    assert old.assignments[0].state is AssignmentState.SUPERSEDED
    parts.clock.at_ms += 60_000
    parts.tick.run()
    assert parts.rollouts.get(second.rollout).assignments[0].state is AssignmentState.TIMED_OUT


def test_only_blobs_of_an_assignment_of_its_own_that_did_not_end_badly_get_an_address(parts: Parts) -> None:
    parts.add_device()
    version = parts.registry.register("m", parts.draft(b"one"), ADMIN).version
    foreign = parts.put(b"foreign")
    assignment = parts.push()
    blob = version.variants[0].manifest.blobs[Role.MODEL].sha256

    def ask(device: DeviceId, name: AssignmentId, sha256: Digest) -> str:
        chunk = parts.fetching.answer(device, Fetch(request="r", assignment=name, sha256=sha256)).chunk
        return chunk.url or (chunk.failure.code if chunk.failure else "")

    assert ask(PI, assignment.id, blob).startswith(f"/api/v1/blobs/{blob}?")
    assert ask(DeviceId("pi-2"), assignment.id, blob) == "fetch.forbidden"
    assert ask(PI, AssignmentId("other"), blob) == "fetch.forbidden"
    assert ask(PI, assignment.id, foreign.sha256) == "fetch.forbidden"
    with parts.uow.begin() as transaction:
        transaction.assignments.put(replace(assignment, state=AssignmentState.SUCCEEDED))
    assert ask(PI, assignment.id, blob).startswith("/api/v1/blobs/"), "what its disk lost is fetched again"
    with parts.uow.begin() as transaction:
        transaction.assignments.put(replace(assignment, state=AssignmentState.FAILED))
    assert ask(PI, assignment.id, blob) == "fetch.forbidden"


def test_duplicates_are_suppressed_and_counted(parts: Parts) -> None:
    parts.add_device()
    rows = [
        Sample(seq=seq, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": 1.0}) for seq in (1, 2, 3)
    ]
    raw = tuple(msgspec.Raw(encode_row(row)) for row in rows)
    batch = TelemetryBatch(stream="s", start=1, oldest=1, head=9, first=1, last=3, rows=raw)
    for _ in range(2):
        ack, _ = parts.observe.telemetry(PI, batch)
        assert ack is not None
        assert ack.upto == 3
    with parts.uow.begin() as transaction:
        totals = transaction.telemetry.totals(PI)
    assert (totals.samples, totals.duplicates, totals.lost, totals.pending) == (3, 3, 0, 6)
    assert parts.observe.telemetry(DeviceId("nobody"), batch) == (None, False)


def test_a_pool_without_a_free_connection_is_a_trouble_that_passes(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db", pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect(), pytest.raises(Unavailable) as caught, mapped_errors(engine):
        engine.connect()
    assert caught.value.hint
    engine.dispose()
