"""The pure rules: selectors, the choice of a variant, what a rollout does next."""

from dataclasses import replace

import msgspec
import pytest

from fleet_cloud.domain.decide import Assign, Finish, Refuse, TimeOut, decide
from fleet_cloud.domain.model import ModelVersion, Variant
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentState,
    Observation,
    Rollout,
    RolloutId,
    RolloutState,
)
from fleet_cloud.domain.selector import parse_selector
from fleet_cloud.domain.variants import choose_variant
from fleet_cloud.errors import InvalidSelector
from fleet_shared.manifest import BlobRef, Contract, Golden, Manifest, Metrics, OpUse, Role, Tensor
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Facts, Failure, RuntimeFact
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName
from fleet_shared.version import Version

FACTS = Facts(
    agent_version="0.1.0", hostname="pi", machine="aarch64", os="Debian", python="3.11",
    cpu_count=4, memory_bytes=1000, disk_bytes=1000, runtimes=(RuntimeFact(name="litert", version="2.3.0"),),
)  # fmt: skip
DYNAMIC = OpUse(name="FULLY_CONNECTED", version=12, dtypes=("float32", "int8"), per_channel=True)
PI = DeviceId("pi-1")


def variant(
    name: str, size: int, accuracy: float | None = 0.9, ops: tuple[OpUse, ...] = (), memory: int = 1
) -> Variant:
    tensor = Tensor(name="x", dtype="int8", shape=(1, 2))
    contract = Contract(
        inputs=(tensor,), outputs=(tensor,), ops=ops, memory_bytes=memory,
        runtimes={"litert": ">=1.0", "tflite_runtime": ">=2.14"},
        golden=Golden(samples=1, tolerance=0.1),
        metrics=Metrics(accuracy=accuracy, validation_accuracy=accuracy),
    )  # fmt: skip
    blob = BlobRef(sha256=Digest("a" * 64), size_bytes=size)
    manifest = Manifest(
        model=ModelName("m"), version="1.0.0", variant=VariantName(name), contract=contract,
        blobs={Role.MODEL: blob},
    )  # fmt: skip
    return Variant(Digest(name.ljust(64, "0")), manifest)


def version(*variants: Variant) -> ModelVersion:
    return ModelVersion(ModelName("m"), Version(1, 0, 0), Digest("c" * 64), 0, variants, {})


ATTRIBUTES = {"id": "pi-1", "site": "berlin", "fact.runtime": "litert"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", True),
        ("site=berlin", True),
        ("site==berlin", True),
        ("site = oslo", False),
        ("site!=oslo", True),
        ("missing!=oslo", True),
        ("site in (oslo, berlin)", True),
        ("site notin (oslo,berlin)", False),
        ("site", True),
        ("!site", False),
        ("!missing", True),
        ("id=pi-1,fact.runtime=litert", True),
        ("id=pi-1,site in (oslo,rome),!missing", False),
    ],
)
def test_selectors(selector: str, expected: bool) -> None:
    assert parse_selector(selector).matches(ATTRIBUTES) is expected


@pytest.mark.parametrize(
    "text", ["", ",", "site=", "=berlin", "site in ()", "site in berlin", "a=b,,c=d", "a b"]
)
def test_a_selector_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(InvalidSelector) as caught:
        parse_selector(text)
    assert caught.value.hint


def chosen(result: Variant | Failure) -> str:
    assert isinstance(result, Variant), result
    return result.name


def test_the_smallest_of_the_accurate_variants_wins() -> None:
    fp32, int8 = variant("fp32", 100, 0.99), variant("int8", 25, 0.981)
    assert chosen(choose_variant(version(fp32, int8), FACTS)) == "int8"
    worse = variant("int8", 25, 0.9799)
    assert chosen(choose_variant(version(fp32, worse), FACTS)) == "fp32"
    assert chosen(choose_variant(version(fp32, variant("x", 1, None)), FACTS)) == "x"
    assert chosen(choose_variant(version(fp32, int8), FACTS, VariantName("fp32"))) == "fp32"


def with_test_accuracy(given: Variant, accuracy: float) -> Variant:
    contract = given.manifest.contract
    metrics = msgspec.structs.replace(contract.metrics, accuracy=accuracy)
    contract = msgspec.structs.replace(contract, metrics=metrics)
    return replace(given, manifest=msgspec.structs.replace(given.manifest, contract=contract))


def test_the_test_split_serves_no_decision() -> None:
    large, small = variant("large", 9, 0.9), variant("small", 1, 0.9)
    flattered = (with_test_accuracy(large, 0.99), with_test_accuracy(small, 0.5))
    assert chosen(choose_variant(version(*flattered), FACTS)) == "small"
    unknown = variant("large", 9, None), with_test_accuracy(variant("small", 1, None), 0.1)
    assert chosen(choose_variant(version(*unknown), FACTS)) == "small"


def test_the_model_file_is_compared_not_what_comes_with_it() -> None:
    golden = BlobRef(sha256=Digest("b" * 64), size_bytes=1000)
    small = variant("small", 1)
    blobs = {**small.manifest.blobs, Role.GOLDEN: golden}
    small = replace(small, manifest=msgspec.structs.replace(small.manifest, blobs=blobs))
    assert chosen(choose_variant(version(small, variant("large", 9)), FACTS)) == "small"


def test_what_a_runtime_or_the_memory_cannot_hold_is_not_chosen() -> None:
    old = replace_runtime("tflite_runtime", "2.14.0")
    plain, dynamic = variant("plain", 100), variant("dynamic", 10, ops=(DYNAMIC,))
    assert chosen(choose_variant(version(plain, dynamic), old)) == "plain"
    assert chosen(choose_variant(version(plain, dynamic), FACTS)) == "dynamic"
    refused = choose_variant(version(dynamic), old)
    assert isinstance(refused, Failure)
    assert "FULLY_CONNECTED" in refused.message
    assert isinstance(choose_variant(version(variant("big", 1, memory=501)), FACTS), Failure)
    assert chosen(choose_variant(version(variant("fits", 1, memory=500)), FACTS)) == "fits"


def replace_runtime(name: str, number: str) -> Facts:
    import msgspec

    return msgspec.structs.replace(FACTS, runtimes=(RuntimeFact(name=name, version=number),))


ROLLOUT = Rollout(
    RolloutId("r"), ModelName("m"), Version(1, 0, 0), "all", (PI,), created_ms=0, policy=Policy(deadline_s=10)
)
ASSIGNMENT = Assignment(
    AssignmentId("a"), ROLLOUT.id, PI, ROLLOUT.model, ROLLOUT.version, AssignmentState.PENDING,
    created_ms=0, updated_ms=0, deadline_ms=10_000,
)  # fmt: skip
VERSION = version(variant("int8", 1))


def see(state: AssignmentState | None, facts: Facts | None = FACTS) -> Observation:
    return Observation(PI, facts, None if state is None else replace(ASSIGNMENT, state=state))


def test_a_device_without_an_assignment_gets_one() -> None:
    assert decide(ROLLOUT, VERSION, [see(None)], 0) == [
        Assign(PI, VariantName("int8"), VERSION.variants[0].digest)
    ]


def test_a_device_that_nothing_fits_is_refused_with_the_reason() -> None:
    (action,) = decide(ROLLOUT, VERSION, [see(None, replace_runtime("abacus", "1"))], 0)
    assert isinstance(action, Refuse)
    assert action.failure.code == "variant.none_fits"


def test_a_device_that_never_spoke_is_waited_for_until_the_deadline() -> None:
    assert decide(ROLLOUT, VERSION, [see(None, None)], 10_000) == []
    (action,) = decide(ROLLOUT, VERSION, [see(None, None)], 10_001)
    assert isinstance(action, Refuse)


def test_an_open_assignment_times_out_after_its_deadline_only() -> None:
    assert decide(ROLLOUT, VERSION, [see(AssignmentState.SOAKING)], 10_000) == []
    (action,) = decide(ROLLOUT, VERSION, [see(AssignmentState.SOAKING)], 10_001)
    assert isinstance(action, TimeOut)


@pytest.mark.parametrize("state", [state for state in AssignmentState if not state.is_open])
def test_a_rollout_ends_when_all_are_closed_and_succeeds_only_if_all_did(state: AssignmentState) -> None:
    (action,) = decide(ROLLOUT, VERSION, [see(AssignmentState.SUCCEEDED), see(state)], 0)
    expected = RolloutState.SUCCEEDED if state is AssignmentState.SUCCEEDED else RolloutState.FAILED
    assert action == Finish(expected)
    assert decide(ROLLOUT, VERSION, [see(state), see(AssignmentState.PENDING)], 0) == []


def test_a_rollout_that_ended_does_nothing() -> None:
    assert decide(replace(ROLLOUT, state=RolloutState.FAILED), VERSION, [see(None)], 99_999) == []
