"""What one device measured decides which variant its like get."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from fleet_cloud.client import Client
from fleet_cloud.factory.package import Package, package
from fleet_shared.manifest import Metrics, Preprocessing
from fleet_shared.messages.desired import Policy
from tests.kit.commands import run_fleet
from tests.kit.packages import make_package, register
from tests.kit.tiny_model import make_sum_and_product
from tests.kit.waiting import wait_for
from tests.kit.world import World, wait_for_outcomes, wait_for_rollout

pytestmark = pytest.mark.system

MANY = 300_000
MEASURED = Policy(soak_s=0.2, deadline_s=120, benchmark=True)


def make_small_and_slow() -> Package:
    """A file of some hundred bytes that computes on many numbers."""
    random = np.random.default_rng(0)
    return package(
        "small",
        make_sum_and_product((1, MANY)),
        labels=[],
        preprocessing=Preprocessing(),
        metrics=Metrics(validation_accuracy=0.9),
        candidates=[[random.normal(size=(1, MANY)).astype(np.float32) for _ in range(2)]],
    )


def make_large_and_fast() -> Package:
    """Small numbers in a large file, as accurate as the other."""
    one = make_package(padding_bytes=50_000)
    contract = msgspec.structs.replace(one.contract, metrics=Metrics(validation_accuracy=0.9))
    return replace(one, name="large", contract=contract)


def push(client: Client, to: str, variant: str | None = None, policy: Policy = MEASURED) -> str:
    """Return the variant that the only device of ``to`` runs after the push."""
    rollout = client.create_rollout("two", to, variant=variant, policy=policy)
    (assignment,) = wait_for_rollout(client, rollout.id).assignments
    assert assignment.state == "succeeded", assignment
    return str(assignment.variant)


def test_the_second_device_gets_what_the_first_one_measured_to_be_faster(world: World) -> None:
    first, second = world.add_agent("pi-1"), world.add_agent("pi-2")
    with world.client() as client:
        register(client, "two", make_small_and_slow(), make_large_and_fast())
        assert push(client, "id=pi-1") == "small", "nobody measured: the smallest file"
        (outcome,) = wait_for_outcomes(client, first.name, 1)
        assert outcome.detail["benchmark_runtime"] == "litert"
        assert push(client, "id=pi-1", "large") == "large"
        wait_for("both to be measured", lambda: len({
            one.variant for one in client.measurements(second.name)}) == 2 or None)  # fmt: skip
        assert push(client, "id=pi-2", policy=Policy(soak_s=0.2, deadline_s=60)) == "large"
        rows = [event for event in client.events(first.name) if event.name == "benchmark.row"]
        (fastest,) = [row for row in rows if row.detail["fastest"] and row.detail["variant"] == "large"]
        reported = client.device(first.name).reported
    assert reported is not None
    assert reported.active is not None
    assert reported.active.threads == fastest.detail["threads"]
    shown = run_fleet(world.controller.url, "device", "show", second.name).stdout
    assert "measured by devices like it:" in shown
    assert "two:1.0.0 (large)" in shown
