"""The table of a benchmark: how it is filled in, what it decides, and that it is made once."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fleet_agent.benchmark.command import parse_threads, run_benchmark
from fleet_agent.benchmark.device import Benchmarks, BenchmarkTerms, RowMeasured
from fleet_agent.benchmark.kept import MANIFESTS_MAX, KeptTable, KeptTables
from fleet_agent.benchmark.measuring import LATE, Measuring
from fleet_agent.benchmark.rows import BenchmarkRow, find_fastest, limit_threads, plan_rows
from fleet_agent.benchmark.table import describe_table
from fleet_agent.errors import SettingsError, SlotError, TransferError
from fleet_agent.worker.measure import OOM_SCORE_MAX
from fleet_agent.worker.protocol import Limits, Measured, SelfTest
from fleet_shared.errors import FleetError
from fleet_shared.limits import ROW_BYTES
from fleet_shared.manifest import OpUse, encode_manifest
from fleet_shared.messages.reported import Failure, RuntimeFact
from fleet_shared.names import Digest, digest_of
from tests.kit.waiting import wait_for
from tests.shared.messages.samples import MANIFEST, RUNNING

ODD = "tests.kit.odd_measure"
LITERT = RuntimeFact(name="litert", version="2.3.0")
TVM = RuntimeFact(name="tvm", version="0.27.0")
RAW = encode_manifest(MANIFEST)
TARGET = msgspec.structs.replace(RUNNING, manifest=digest_of(RAW))


def measured(p50_us: float, difference: float = 0.0, flips: int = 0) -> Measured:
    test = SelfTest(samples=4, max_difference=difference, tolerance=0.5, class_flips=flips)
    return Measured(
        runtime_version="1", runs=50, load_ms=1, p50_us=p50_us, p99_us=9, peak_bytes=1, growth_bytes=0,
        self_test=test,
    )  # fmt: skip


def row(runtime: str, threads: int = 1, **found: object) -> BenchmarkRow:
    return BenchmarkRow(runtime=runtime, version="1", threads=threads, **found)  # type: ignore[arg-type]


def fill_in(tmp_path: Path, *rows: BenchmarkRow, within_s: float = 60) -> list[BenchmarkRow]:
    return Measuring(tmp_path, tmp_path / "compiled", within_s=within_s, module=ODD).fill_in(rows)


def test_the_fastest_is_the_fastest_that_passes() -> None:
    right, slower = row("a", measured=measured(3.0, 0.5)), row("b", measured=measured(3.1))
    wrong = row("c", measured=measured(1.0, 0.6))
    flipped = row("d", measured=measured(1.0, 0.1, flips=1))
    failed = row("e", failure=Failure(code="x", message="x"))
    assert find_fastest([slower, wrong, flipped, failed, right]) == right
    assert find_fastest([wrong, flipped, failed]) is None
    assert find_fastest([right, row("z", measured=measured(3.0))]) == right, "the preferred one at a draw"


def test_each_allowed_runtime_is_planned_for_each_number_of_threads() -> None:
    assert [limit_threads(count) for count in (0, 1, 2, 3, 64)] == [(1,), (1,), (1, 2), (1, 2), (1, 2, 4)]
    assert [limit_threads(4, cpus) for cpus in (1, 2, 8)] == [(1,), (1, 2), (1, 2, 4)]
    dynamic = OpUse(name="CONV_2D", version=5, dtypes=("float32", "int8", "float32"), per_channel=True)
    contract = msgspec.structs.replace(
        MANIFEST.contract, ops=(dynamic,), runtimes={"litert": "", "tvm": ""}
    )  # fmt: skip
    planned = plan_rows(contract, (LITERT, TVM), (1, 2))
    assert [(one.runtime, one.threads, one.failure is None) for one in planned] == [
        ("litert", 1, True), ("litert", 2, True), ("tvm", 1, False),
    ]  # fmt: skip
    assert planned[2].failure is not None
    assert "dynamic range" in planned[2].failure.message


def test_a_crash_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    rows = fill_in(
        tmp_path, *(row(name) for name in ("segfault", "mute", "refuse", "chatty", "wrong", "good"))
    )
    assert [one.outcome for one in rows] == [
        "failed: killed by SIGSEGV",
        "failed: it gave no answer, exit code 3",
        "failed: it rejects the model",
        "passed, differs by 0 of 0.5",
        "wrong: differs by 1, allowed 0.5",
        "passed, differs by 0 of 0.5",
    ]
    table = describe_table(rows)
    assert "failed: killed by SIGSEGV" in table
    assert [line.split()[1] for line in table.splitlines() if line.startswith("*")] == ["chatty"]


def test_a_row_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (hung,) = fill_in(tmp_path, row("hang"), within_s=0.3)
    assert hung.outcome == "failed: it did not end within 0.3 s"


def test_an_update_that_is_given_up_ends_its_benchmark(tmp_path: Path) -> None:
    aborted = threading.Event()
    measuring = Measuring(tmp_path, tmp_path, module=ODD, aborted=aborted)
    threading.Timer(0.3, aborted.set).start()
    with pytest.raises(TransferError) as caught:
        measuring.fill_in([row("hang"), row("good")])
    assert caught.value.code == "transfer.aborted"


def test_what_the_time_for_the_whole_table_does_not_reach_is_said_and_measured_next_time(
    tmp_path: Path,
) -> None:
    terms = BenchmarkTerms(threading.Event(), total_s=-1.0)
    reported: list[RowMeasured] = []
    evidence = make_benchmarks(tmp_path, reported, LITERT).take(tmp_path, TARGET, RAW, terms)
    assert evidence == {"benchmark_rows": 2, "benchmark_passed": 0}
    assert [one.failure and one.failure.message for one in reported] == [LATE, LATE]
    again = make_benchmarks(tmp_path, reported, LITERT)
    assert again.take(tmp_path, TARGET, RAW, BenchmarkTerms(threading.Event()))["benchmark_passed"] == 2


def test_a_row_is_ended_with_the_time_for_the_whole_table(tmp_path: Path) -> None:
    measuring = Measuring(tmp_path, tmp_path, module=ODD, total_s=1.0)
    hung, late = measuring.fill_in([row("hang"), row("good")])
    assert [one.outcome for one in (hung, late)] == [f"failed: {LATE}"] * 2


def test_the_fastest_keeps_within_the_memory_that_its_worker_may_have() -> None:
    large = msgspec.structs.replace(measured(1.0), peak_bytes=101)
    fitting = row("b", measured=msgspec.structs.replace(measured(2.0), peak_bytes=100))
    assert find_fastest([row("a", measured=large), fitting], 100) == fitting
    assert find_fastest([row("a", measured=large)], 100) is None


def test_when_memory_runs_out_the_measuring_process_goes_first() -> None:
    command = [sys.executable, "-m", "fleet_agent.worker.measure"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        score = Path(f"/proc/{process.pid}/oom_score_adj")
        try:
            wait_for("its score", lambda: score.read_text().strip() == str(OOM_SCORE_MAX))
        finally:
            process.kill()


def make_benchmarks(folder: Path, reported: list[RowMeasured], *runtimes: RuntimeFact) -> Benchmarks:
    return Benchmarks(
        runtimes=runtimes, cpu_count=2, measuring=lambda slot: Measuring(slot, folder, module=ODD),
        kept=KeptTables(folder / "benchmarks.json"), report=reported.append,
    )  # fmt: skip


def test_a_version_is_measured_once_and_reported_each_time(tmp_path: Path) -> None:
    reported: list[RowMeasured] = []
    log = tmp_path / "measured"
    first = make_benchmarks(tmp_path, reported, LITERT)
    evidence = first.take(tmp_path, TARGET, RAW, BenchmarkTerms(threading.Event()))
    assert evidence == {
        "benchmark_rows": 2, "benchmark_passed": 2, "benchmark_runtime": "litert", "benchmark_threads": 1,
        "benchmark_p50_us": 1.0,
    }  # fmt: skip
    assert log.read_text().splitlines() == ["litert 1 50 0", "litert 2 50 0"]
    again = make_benchmarks(tmp_path, reported, LITERT)
    assert again.take(tmp_path, TARGET, RAW, BenchmarkTerms(threading.Event())) == evidence
    assert len(log.read_text().splitlines()) == 2, "not measured again"
    assert [(one.detail["threads"], one.detail["fastest"]) for one in reported] == [(1, True), (2, False)] * 2
    newer = RuntimeFact(name="litert", version="2.4.0")
    make_benchmarks(tmp_path, reported, newer).take(tmp_path, TARGET, RAW, BenchmarkTerms(threading.Event()))
    assert len(log.read_text().splitlines()) == 4, "another runtime is measured anew"
    assert all(len(msgspec.json.encode(one.detail)) < ROW_BYTES // 2 for one in reported)


def test_one_that_was_given_up_is_not_kept(tmp_path: Path) -> None:
    aborted = threading.Event()
    aborted.set()
    with pytest.raises(TransferError):
        make_benchmarks(tmp_path, [], LITERT).take(tmp_path, TARGET, RAW, BenchmarkTerms(aborted))
    assert not (tmp_path / "benchmarks.json").exists()


def test_what_failed_for_want_of_memory_is_measured_again(tmp_path: Path) -> None:
    contract = msgspec.structs.replace(MANIFEST.contract, runtimes={"killed": ""})
    raw = encode_manifest(msgspec.structs.replace(MANIFEST, contract=contract))
    benchmarks = make_benchmarks(tmp_path, [], RuntimeFact(name="killed", version="1"))
    for times in (1, 2):
        assert (
            benchmarks.take(tmp_path, TARGET, raw, BenchmarkTerms(threading.Event()))["benchmark_passed"] == 0
        )
        assert len((tmp_path / "measured").read_text().splitlines()) == 2 * times


def test_a_version_is_measured_within_the_limits_of_its_worker(tmp_path: Path) -> None:
    benchmarks = replace(
        make_benchmarks(tmp_path, [], LITERT),
        cpus_max=1,
        measuring=lambda slot: Measuring(slot, tmp_path, Limits(cpus=1), module=ODD),
    )
    benchmarks.take(tmp_path, TARGET, RAW, BenchmarkTerms(threading.Event()))
    assert (tmp_path / "measured").read_text().splitlines() == ["litert 1 50 1"]


def test_few_tables_are_kept_and_damage_costs_them_only(tmp_path: Path) -> None:
    kept = KeptTables(tmp_path / "benchmarks.json")
    for number in range(MANIFESTS_MAX + 2):
        kept.keep(KeptTable(manifest=Digest(f"{number:064d}"), conditions=("c",), rows=()))
    found = [number for number in range(20) if kept.find(Digest(f"{number:064d}"), ("c",)) is not None]
    assert found == list(range(2, MANIFESTS_MAX + 2))
    assert kept.find(Digest(f"{5:064d}"), ("other",)) is None
    kept.path.write_text("{")
    assert kept.find(Digest(f"{5:064d}"), ("c",)) is None


def test_numbers_of_threads_are_read_from_a_list() -> None:
    assert parse_threads("4, 1,4") == (4, 1)
    assert parse_threads("")[0] == 1
    for wrong in ("x", "0", "1,,2", "257", "-1", "99999999", "²"):
        with pytest.raises(SettingsError) as caught:
            parse_threads(wrong)
        assert caught.value.code == "benchmark.threads"


def test_without_a_model_there_is_nothing_to_measure(tmp_path: Path) -> None:
    for state in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SlotError) as caught:
            run_benchmark(state, lambda: [LITERT], (1,), 50, as_json=False)
        assert caught.value.code == "benchmark.no_model"
        assert caught.value.hint
    assert not (tmp_path / "missing").exists()


def test_where_no_runtime_fits_the_table_is_shown_and_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slot = tmp_path / "slots" / TARGET.manifest
    slot.mkdir(parents=True)
    (slot / "manifest.json").write_bytes(RAW)
    pointers = {"schema": 1, "active": msgspec.to_builtins(TARGET)}
    (tmp_path / "slots.json").write_bytes(msgspec.json.encode(pointers))
    with pytest.raises(FleetError) as caught:
        run_benchmark(tmp_path, lambda: [RuntimeFact(name="abacus", version="1")], (1,), 50, as_json=False)
    assert caught.value.code == "benchmark.none_passed"
    assert "abacus is not among the runtimes" in capsys.readouterr().out
