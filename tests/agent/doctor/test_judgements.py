"""The rules of the doctor: what is well, what somebody should look at, what fails; each with what to do."""

import re
from pathlib import Path

import msgspec
import pytest

from fleet_agent.doctor import describe_findings, examine, has_failed
from fleet_agent.doctor.controller import hint_for, judge_certificate
from fleet_agent.doctor.finding import Finding, Found, Verdict
from fleet_agent.doctor.machine import (
    judge_clock_stamp,
    judge_disk,
    judge_memory,
    judge_power,
    judge_service,
    judge_temperature,
)
from fleet_agent.doctor.model import (
    check_model,
    check_runtime,
    check_worker,
    judge_outbox,
    judge_runtimes,
    judge_worker,
)
from fleet_agent.identity import Identity, save_identity
from fleet_agent.paths import StatePaths
from fleet_agent.settings import Settings
from fleet_agent.slots import Pointers
from fleet_agent.status import OutboxStatus
from fleet_agent.telemetry.clock import Stamp
from fleet_agent.trust.protocol import CertificateRead, Refused
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.messages.reported import Running, RuntimeFact
from fleet_shared.messages.telemetry import Clock
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName

OK, ATTENTION, FAILED, SKIPPED = Verdict.OK, Verdict.ATTENTION, Verdict.FAILED, Verdict.SKIPPED
MIB = 2**20
DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
LITERT = RuntimeFact(name="litert", version="2.3.0")
ACTIVE = Running(
    model=ModelName("m"), version="1.0.0", variant=VariantName("int8"), manifest=Digest("a" * 64),
    assignment=AssignmentId("x"), runtime="litert",
)  # fmt: skip


def check(found: Found, verdict: Verdict, *words: str) -> None:
    assert found.verdict is verdict, found
    for word in words:
        assert word in f"{found.message} {found.hint}", found
    assert bool(found.hint) == (verdict in (ATTENTION, FAILED)), "what is wrong comes with what to do"


@pytest.mark.parametrize(
    ("wall_ms", "clock", "floor_ms", "verdict", "words"),
    [
        (NOW_MS, Clock.SYNCED, 0, OK, "in step with a time server"),
        (NOW_MS, Clock.UNKNOWN, 0, OK, "no time server confirms it"),
        (None, Clock.UNSYNCED, 0, ATTENTION, "cannot be believed"),
        (None, Clock.UNSYNCED, NOW_MS, ATTENTION, "at least 2026-09-21"),
    ],
)
def test_clock(wall_ms: int | None, clock: Clock, floor_ms: int, verdict: Verdict, words: str) -> None:
    check(judge_clock_stamp(Stamp("b", 1, wall_ms, clock), floor_ms), verdict, words)


@pytest.mark.parametrize(
    ("free", "inodes", "read_only", "writable", "verdict", "words"),
    [
        (100 * MIB, 10_000, False, True, OK, "100 MiB free"),
        (16 * MIB, None, False, True, OK, "16 MiB free"),
        (16 * MIB - 1, 10_000, False, True, FAILED, "less than the margin"),
        (100 * MIB, 10_000, True, False, FAILED, "read-only"),
        (100 * MIB, 10_000, False, False, FAILED, "cannot be written"),
        (100 * MIB, 199, False, True, FAILED, "only 199 more files"),
    ],
)
def test_disk(
    free: int, inodes: int | None, read_only: bool, writable: bool, verdict: Verdict, words: str
) -> None:
    found = judge_disk(Path("/s"), free, 16 * MIB, inodes, read_only=read_only, writable=writable)
    check(found, verdict, words)


def test_memory_and_temperature() -> None:
    check(judge_memory({}), SKIPPED)
    full = {"memory_total_bytes": 1000.0 * MIB, "memory_used_bytes": 960.0 * MIB}
    check(judge_memory(full), ATTENTION, "40 MiB of 1000 MiB free")
    check(judge_memory(full | {"memory_used_bytes": 900.0 * MIB}), OK)
    check(judge_temperature(None), SKIPPED)
    check(judge_temperature(79.9), OK)
    check(judge_temperature(80.0), ATTENTION, "slows down")


def test_power() -> None:
    check(judge_power(None), SKIPPED)
    check(judge_power(0), OK)
    check(judge_power(0x10000), ATTENTION, "under voltage since boot", "power supply")
    check(judge_power(0x4), ATTENTION, "throttled", "fan")


@pytest.mark.parametrize(
    ("properties", "verdict", "words"),
    [
        ({}, SKIPPED, "no unit"),
        ({"LoadState": "loaded", "ActiveState": "failed"}, FAILED, "is failed"),
        (
            {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "disabled"},
            ATTENTION,
            "next boot",
        ),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "3"}, ATTENTION, "3 restarts"),
        ({"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}, OK, "runs"),
    ],
)
def test_service(properties: dict[str, str], verdict: Verdict, words: str) -> None:
    check(judge_service(properties), verdict, words)


@pytest.mark.parametrize(
    ("now_ms", "verdict", "words"),
    [
        (NOW_MS, OK, "90 days left"),
        (None, OK, "of pi-1"),
        (NOW_MS + 61 * DAY_MS, ATTENTION, "ends in 29 days"),
        (NOW_MS + 92 * DAY_MS, FAILED, "ended 2 days ago"),
        (NOW_MS - DAY_MS, FAILED, "begins in the future"),
    ],
)
def test_certificate(now_ms: int | None, verdict: Verdict, words: str) -> None:
    read = CertificateRead(device="pi-1", not_before_ms=NOW_MS, not_after_ms=NOW_MS + 90 * DAY_MS)
    check(judge_certificate(read, now_ms), verdict, words)


def test_a_certificate_that_cannot_be_read() -> None:
    check(
        judge_certificate(Refused(code="enrol.certificate", message="it is damaged"), NOW_MS),
        FAILED,
        "damaged",
    )


@pytest.mark.parametrize(
    ("runtimes", "troubles", "active", "verdict", "words"),
    [
        ((), {}, None, FAILED, "no runtime"),
        ((LITERT,), {}, ACTIVE, OK, "litert 2.3.0"),
        ((LITERT,), {}, msgspec.structs.replace(ACTIVE, runtime="openvino"), FAILED, "needs openvino"),
        ((LITERT,), {"litert": "no numpy"}, ACTIVE, FAILED, "litert does not start: no numpy"),
        ((LITERT,), {"litert": "no numpy"}, None, FAILED, "no numpy"),
        (
            (LITERT, RuntimeFact(name="tvm", version="1")),
            {"tvm": "x"},
            ACTIVE,
            ATTENTION,
            "tvm does not start",
        ),
    ],
)
def test_runtime(
    runtimes: tuple[RuntimeFact, ...],
    troubles: dict[str, str],
    active: Running | None,
    verdict: Verdict,
    words: str,
) -> None:
    check(judge_runtimes(runtimes, troubles, active), verdict, words)


def test_worker() -> None:
    check(judge_worker("200", "200"), OK)
    check(judge_worker("200", "503"), FAILED, "not ready")
    check(judge_worker("Connection refused", ""), FAILED, "no worker answers")


@pytest.mark.parametrize(
    ("outbox", "damaged", "running", "verdict", "words"),
    [
        (OutboxStatus(), False, True, OK, "0 rows wait"),
        (
            OutboxStatus(rows=1, oldest_boot=("b", 9_999_000)),
            False,
            True,
            OK,
            "1 row waits, the oldest for 1 s",
        ),
        (OutboxStatus(rows=5, oldest_boot=("b", 9_990_000)), False, True, OK, "the oldest for 10 s"),
        (OutboxStatus(rows=5, oldest_boot=("b", 1_000)), False, True, ATTENTION, "the oldest for 3 h"),
        (OutboxStatus(rows=5, oldest_boot=("b", 1_000)), False, False, OK, "the oldest for 3 h"),
        (OutboxStatus(rows=5, oldest_boot=("a", 1_000)), False, True, ATTENTION, "before this boot"),
        (OutboxStatus(), True, True, ATTENTION, "damaged"),
        (OutboxStatus(trouble="no database"), False, True, FAILED, "no database"),
    ],
)
def test_outbox(outbox: OutboxStatus, damaged: bool, running: bool, verdict: Verdict, words: str) -> None:
    check(judge_outbox(outbox, ("b", 10_000_000), damaged=damaged, running=running), verdict, words)


def test_only_the_runtimes_that_the_settings_allow_are_tried(tmp_path: Path) -> None:
    """What the operator excluded may be broken, and is none of the agent's business."""
    found = check_runtime(Settings(tmp_path, runtimes="litert"))
    assert found.verdict is OK
    assert re.fullmatch(r"litert [\d.]+", found.message)


def test_a_setting_that_names_no_runtime_is_said_as_such(tmp_path: Path) -> None:
    (found,) = [one for one in examine(Settings(tmp_path, runtimes="abacus")) if one.check == "runtime"]
    assert found.verdict is FAILED
    assert "there is no runtime 'abacus'" in found.message
    assert "known are litert" in found.hint


def test_a_device_that_is_told_to_use_its_broker_alone_is_not_told_to_reach_more(tmp_path: Path) -> None:
    folder = StatePaths(tmp_path).identity
    folder.mkdir()
    save_identity(
        folder,
        Identity(
            device=DeviceId("pi-1"), controller_url="http://127.0.0.1:1", metadata_path="/m",
            targets_path="/t", topic_root="fleet/v1", broker=BrokerAddress(host="127.0.0.1", port=1),
        ),
    )  # fmt: skip
    verdicts = {
        way: [one.verdict for one in examine(Settings(tmp_path, transfers=way)) if one.check == "controller"]
        for way in ("auto", "mqtt", "pigeon")
    }
    assert verdicts == {"auto": [ATTENTION], "mqtt": [Verdict.SKIPPED], "pigeon": [FAILED]}


def test_only_a_failed_check_makes_it_fail() -> None:
    findings = [
        Finding(check="clock", verdict=ATTENTION, message="late", hint="timedatectl"),
        Finding(check="disk", verdict=OK, message="fine"),
    ]
    assert not has_failed(findings)
    assert has_failed([*findings, Finding(check="link", verdict=FAILED, message="away", hint="look")])
    assert describe_findings(findings).splitlines() == [
        "attention  clock        late",
        "                        timedatectl",
        "ok         disk         fine",
    ]


def test_slots_that_are_gone_are_told_and_not_made(tmp_path: Path) -> None:
    """Root looks: a folder of root's would keep the agent from installing anything."""
    paths = StatePaths(tmp_path)
    paths.pointers.write_bytes(msgspec.json.encode(Pointers(active=ACTIVE)))
    check(check_model(paths), FAILED, "its slot cannot be read")
    assert not paths.slots.exists()


def test_a_worker_whose_model_nobody_knows_is_not_judged(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    paths.pointers.write_text("{")
    check(check_worker(paths, running=True), SKIPPED, "see the check of the model")


def test_a_broker_that_refuses_this_device_is_a_matter_for_its_operator() -> None:
    assert "readmit" in hint_for("Not authorized")
    assert hint_for("Unspecified error") == hint_for("") == "see the agent's log"
