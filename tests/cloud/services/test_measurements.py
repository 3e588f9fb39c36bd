"""Rows of benchmarks on their way into the books, and into the next push; on both databases."""

import msgspec

from fleet_cloud.adapters.db import measurements as table
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.domain.measurements import Measurement
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.drafts import VariantDraft, VersionDraft
from fleet_shared.manifest import Role
from fleet_shared.messages.telemetry import Event
from fleet_shared.names import AssignmentId, DeviceId, Digest
from tests.cloud.domain.test_rules import variant
from tests.kit.parts import ABLE, PI, Parts, batch, outcome_batch
from tests.kit.people import ADMIN

OTHER = DeviceId("pi-2")


def draft(parts: Parts) -> VersionDraft:
    """A small variant and a large one, equally accurate."""

    def make(name: str, content: bytes) -> VariantDraft:
        blobs = {Role.MODEL: parts.put(content), Role.GOLDEN: parts.put(b"golden")}
        return VariantDraft(name=name, contract=variant(name, 1).manifest.contract, blobs=blobs)

    return VersionDraft(variants=(make("small", b"s"), make("large", b"l" * 50)))


def say(
    parts: Parts, device: DeviceId, assignment: AssignmentId, seq: int, manifest: str, p50_us: float
) -> None:
    detail: dict[str, str | int | float | bool | None] = {
        "runtime": "litert", "threads": 1, "manifest": manifest, "passed": True, "latency_p50_us": p50_us,
    }  # fmt: skip
    event = Event(
        seq=seq, boot_id="b", boot_ms=1, name="benchmark.row", assignment=assignment, detail=detail
    )  # fmt: skip
    ack, _ = parts.observe.telemetry(device, batch(event, start=1))
    assert ack is not None
    assert not ack.rejected


def measured(parts: Parts, device: str = PI) -> list[tuple[str | None, float | None]]:
    found = Inventory(parts.uow, SystemClock()).measurements(device)
    return [(one.variant, one.measurement.latency_p50_us) for one in found]


def test_what_one_device_measured_decides_for_its_like(parts: Parts) -> None:
    parts.add_device()
    parts.add_device(OTHER)
    version = parts.registry.register("m", draft(parts), ADMIN).version
    digests = {str(one.name): one.digest for one in version.variants}
    first = parts.push(to="id=pi-1")
    assert first.variant == "small"
    say(parts, PI, first.id, 1, digests["small"], 90.0)
    parts.observe.telemetry(PI, outcome_batch(first.id, "update.succeeded", 2))
    assert parts.push(to="id=pi-2").variant == "small", (
        "one that was measured has nothing to be compared with"
    )
    with parts.uow.begin() as transaction:
        row = transaction.measurements.of_manifests([digests["small"]])[0]
        transaction.measurements.put(
            Measurement(row.hardware, "litert", row.runtime_version, 1, digests["large"], True, 30.0, PI, 5)
        )
    assert parts.push(to="id=pi-2").variant == "large"


def test_the_newest_of_each_kind_is_kept_and_named(parts: Parts) -> None:
    parts.add_device()
    version = parts.registry.register("m", draft(parts), ADMIN).version
    (small,) = [one.digest for one in version.variants if one.name == "small"]
    assignment = parts.push(to="id=pi-1")
    say(parts, PI, assignment.id, 1, small, 90.0)
    say(parts, PI, assignment.id, 2, small, 80.0)
    assert measured(parts) == [("small", 80.0)]
    (named,) = Inventory(parts.uow, SystemClock()).measurements(PI)
    assert (named.model, named.version, named.measurement.device) == ("m", "1.0.0", PI)
    silent = parts.add_device("pi-3", facts=None)
    assert measured(parts, silent) == []
    parts.add_device("pi-4", facts=msgspec.structs.replace(ABLE, cpu_count=1))
    assert measured(parts, "pi-4") == [], "another kind of device"


def test_a_device_speaks_of_its_own_assignment_and_variant_only(parts: Parts) -> None:
    parts.add_device()
    parts.add_device(OTHER)
    version = parts.registry.register("m", draft(parts), ADMIN).version
    digests = {str(one.name): one.digest for one in version.variants}
    assignment = parts.push(to="id=pi-1")
    say(parts, OTHER, assignment.id, 1, digests["small"], 1.0)
    say(parts, PI, assignment.id, 1, digests["large"], 1.0)
    say(parts, PI, AssignmentId("nobodys"), 2, digests["small"], 1.0)
    assert measured(parts) == []


def test_of_a_variant_only_so_many_are_kept(parts: Parts) -> None:
    parts.add_device()
    kept = table.PER_MANIFEST
    with parts.uow.begin() as transaction:
        for number in range(kept + 3):
            transaction.measurements.put(
                Measurement(
                    f"board {number}", "litert", "2.3", 1, Digest("a" * 64), True, 1.0,
                    DeviceId(f"pi-{number}"), number,
                )
            )  # fmt: skip
        found = transaction.measurements.of_manifests([Digest("a" * 64)])
        assert {one.measured_ms for one in found} == set(range(3, kept + 3))
        assert transaction.measurements.of_manifests([]) == []
        (one,) = transaction.measurements.of_hardware(f"board {kept}", 10)
        assert one.passed is True


def test_one_device_pushes_nobody_out(parts: Parts) -> None:
    """Not by many numbers of threads, not by calling itself another board each time."""
    parts.add_device()
    manifest = Digest("a" * 64)

    def say(device: str, at_ms: int, hardware: str = "board", version: str = "2.3", threads: int = 1) -> None:
        row = Measurement(hardware, "litert", version, threads, manifest, True, 1.0, DeviceId(device), at_ms)
        transaction.measurements.put(row)

    def load(device: str) -> set[tuple[str, str, int]]:
        rows = transaction.measurements.of_manifests([manifest])
        return {(one.hardware, one.runtime_version, one.threads) for one in rows if one.device == device}

    with parts.uow.begin() as transaction:
        say("honest", 1)
        for number in range(1, table.PER_DEVICE + 5):
            say("liar", 1 + number, threads=number + 1)
        assert len(load("liar")) == table.PER_DEVICE
        for number in range(1, 2 * table.PER_DEVICE):
            say("liar", 1000 + number, hardware=f"board {number}")
        assert load("liar") == {(f"board {2 * table.PER_DEVICE - 1}", "2.3", 1)}
        assert load("honest") == {("board", "2.3", 1)}
        say("honest", 2, version="2.4")
        assert load("honest") == {("board", "2.4", 1)}, "it has one version of a runtime"


def test_of_a_kind_the_newest_devices_speak(parts: Parts) -> None:
    parts.add_device()
    manifest = Digest("a" * 64)
    with parts.uow.begin() as transaction:
        for number in range(table.PER_KIND + 2):
            name = DeviceId(f"pi-{number}")
            transaction.measurements.put(
                Measurement("board", "litert", "2.3", 1, manifest, True, 1.0, name, number)
            )
        found = transaction.measurements.of_manifests([manifest])
    assert {one.device for one in found} == {f"pi-{n}" for n in range(2, table.PER_KIND + 2)}
