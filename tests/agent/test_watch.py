"""What speaks against a worker: no progress, no sign of life, too much memory, memory that rises."""

from pathlib import Path

import pytest

from fleet_agent.blackbox import BlackBox, Doing, Vital, load_rss_bytes
from fleet_agent.bootstrap import plan_bounds
from fleet_agent.growth import RISING, WARM_AFTER, Growth
from fleet_agent.link.backoff import Backoff
from fleet_agent.restarts import Restarts
from fleet_agent.settings import Settings
from fleet_agent.watch import SILENT_S, Bounds, Verdict, Watch
from fleet_agent.worker_end import explain_end

MIB = 1024 * 1024
BOUNDS = Bounds(hang_s=10.0, silent_s=30.0)


def look(watch: Watch, *vitals: Vital, every_s: float = 1.0) -> Verdict | None:
    """Return the first verdict over ``vitals``, one look each."""
    return next((found for one in vitals if (found := watch.judge(one, every_s)) is not None), None)


def serving(started: int, ended: int, beats: int = 0, rss_bytes: int | None = None) -> Vital:
    return Vital(Doing.SERVING, started, ended, beats, rss_bytes)


# -- progress


def test_an_inference_without_progress_is_a_hang_even_if_threads_go_on() -> None:
    verdict = look(Watch(BOUNDS), *[serving(7, 6, beats=second) for second in range(12)])
    assert verdict is not None
    assert verdict.code == "worker.hung"
    assert verdict.why == "inference 7 made no progress for 11.0 s"
    assert verdict.detail == {"busy_s": 11.0, "bound_s": 10.0}


def test_a_slow_inference_within_its_bound_is_none() -> None:
    assert look(Watch(BOUNDS), *[serving(7, 6) for _ in range(11)]) is None


def test_one_inference_after_the_other_is_progress() -> None:
    busy = [serving(number, number - 1) for number in range(1, 100)]
    assert look(Watch(BOUNDS), *busy) is None


def test_inferences_that_end_beside_a_running_one_are_progress() -> None:
    assert look(Watch(BOUNDS), *[serving(number + 2, number) for number in range(100)]) is None


@pytest.mark.parametrize(
    ("doing", "hangs"),
    [(Doing.STARTING, False), (Doing.LOADING, False), (Doing.READY, True), (Doing.SERVING, True)],
)
def test_a_worker_without_a_beat_is_silent_once_it_has_loaded(doing: Doing, hangs: bool) -> None:
    verdict = look(Watch(BOUNDS), *[Vital(doing)] * 32)
    assert (verdict.why if verdict else None) == ("it gave no sign of life for 30 s" if hangs else None)


def test_an_idle_worker_is_not_hung() -> None:
    assert look(Watch(BOUNDS), *[serving(5, 5, beats=second) for second in range(1000)]) is None


def test_a_self_test_that_hangs_is_a_hang() -> None:
    verdict = look(Watch(BOUNDS), *[Vital(Doing.TESTING, 3, 2)] * 12)
    assert verdict is not None
    assert verdict.code == "worker.hung"


# -- memory


def test_memory_beyond_its_bound_is_said_with_where_it_began() -> None:
    watch = Watch(Bounds(memory_bytes=100 * MIB))
    assert look(watch, serving(1, 1, 1, 60 * MIB), serving(2, 2, 2, 100 * MIB)) is None
    verdict = look(watch, serving(3, 3, 3, 101 * MIB))
    assert verdict is not None
    assert verdict.code == "worker.memory"
    assert verdict.why == "it holds 101.0 MiB of memory, and may have 100.0 MiB"
    assert verdict.detail == {
        "rss_start_bytes": 60 * MIB, "rss_bytes": 101 * MIB, "bound_bytes": 100 * MIB,
    }  # fmt: skip
    assert watch.rss_max_bytes == 101 * MIB


def test_memory_that_cannot_be_read_is_not_judged() -> None:
    assert look(Watch(Bounds(memory_bytes=1)), serving(1, 1, 1, None)) is None


def floors_of(*floors: int) -> list[int | None]:
    """Return what `Growth` says at the end of each window with such a floor."""
    growth = Growth(window_s=2.0)
    said: list[int | None] = []
    for floor in floors:
        assert growth.take(floor + 50, 1.0) is None, "within a window nothing is said"
        said.append(growth.take(floor, 1.0))
    return said


def test_the_warm_up_and_the_first_floors_say_nothing() -> None:
    count = WARM_AFTER + RISING
    assert floors_of(*range(100, 100 + count))[:-1] == [None] * (count - 1)


@pytest.mark.parametrize(
    ("floors", "risen"),
    [
        ((500, 100, 110, 120, 130), 30),  # steadily, from the first warm floor
        ((100, 100, 110, 120, 120), None),  # a plateau
        ((100, 100, 300, 300, 300, 300, 300), None),  # much, once
        ((100, 100, 110, 90, 120), None),  # it came back
        ((100, 100, 200, 150, 160, 170, 180), 80),  # it came back, and rises again
    ],
)
def test_a_rise_counts_while_it_goes_on(floors: tuple[int, ...], risen: int | None) -> None:
    assert floors_of(*floors)[-1] == risen


def test_a_leak_ends_a_worker_long_before_its_bound_and_a_plateau_does_not() -> None:
    def judge(rss: list[int]) -> Verdict | None:
        watch = Watch(Bounds(memory_bytes=10_000 * MIB, growth_bytes=64 * MIB))
        return look(watch, *[serving(n, n, n, one * MIB) for n, one in enumerate(rss)], every_s=10.0)

    verdict = judge([60 + second // 6 * 10 for second in range(100)])
    assert verdict is not None
    assert verdict.code == "worker.memory"
    assert verdict.detail["risen_bytes"] == 70 * MIB
    assert judge([60] * 12 + [400] * 200) is None


# -- restarts


def test_restarts_come_with_backoff_then_slowly_and_never_end() -> None:
    restarts = Restarts(Backoff(1.0, 60.0, lambda: 1.0), budget=3, slow_s=600.0, random=lambda: 0.5)
    assert [(restarts.plan_s(), restarts.given_up) for _ in range(5)] == [
        (1.0, False), (2.0, False), (4.0, False), (600.0, True), (600.0, True),
    ]  # fmt: skip
    restarts.reset()
    assert (restarts.plan_s(), restarts.given_up) == (1.0, False)


def test_slow_restarts_of_a_fleet_do_not_come_all_at_once() -> None:
    shares = iter((0.0, 1.0))
    restarts = Restarts(Backoff(1.0, 60.0, lambda: 1.0), 0, 600.0, lambda: next(shares))
    assert [restarts.plan_s(), restarts.plan_s()] == [450.0, 750.0]


# -- the end


@pytest.mark.parametrize(
    ("exit_code", "vital", "verdict", "code", "message"),
    [
        (-11, Vital(Doing.LOADING), None, "worker.crashed", "crashed with SIGSEGV; it was loading the model"),
        (-6, serving(5, 4), None, "worker.crashed", "crashed with SIGABRT; it was serving, in inference 5"),
        (-9, serving(5, 5), None, "worker.killed", "killed by SIGKILL; it was serving, after 5 inferences"),
        (-99, Vital(Doing.READY), None, "worker.killed", "killed by signal 99; it was ready to serve"),
        (3, Vital(Doing.STARTING), None, "worker.exited", "exit code 3; it was starting"),
        (
            -9, serving(5, 4), Verdict(code="worker.hung", why="it hangs", detail={"busy_s": 3.0}),
            "worker.hung", "killed, since it hangs; it was serving, in inference 5",
        ),
    ],
)  # fmt: skip
def test_an_end_says_how_and_at_what(
    exit_code: int, vital: Vital, verdict: Verdict | None, code: str, message: str
) -> None:
    end = explain_end(exit_code, vital, verdict)
    assert end.failure.code == code
    assert end.failure.message == f"the inference worker ended: {message}"
    assert end.failure.hint
    assert end.detail["doing"] == vital.doing.value
    assert end.detail["inferences"] == vital.ended
    assert end.detail["in_inference"] is vital.is_busy
    assert verdict is None or end.detail["busy_s"] == 3.0


# -- the black box


def test_what_is_written_is_what_is_read() -> None:
    box = BlackBox()
    assert box.read() == Vital(Doing.STARTING)
    box.do(Doing.SERVING)
    box.count_started()
    box.count_started()
    box.count_ended()
    box.beat()
    assert box.read(5) == Vital(Doing.SERVING, started=2, ended=1, beats=1, rss_bytes=5)
    box.close()


def test_the_memory_of_a_process_that_is_gone_is_unknown() -> None:
    assert load_rss_bytes(2**22 + 1) is None


@pytest.mark.parametrize(("hang_s", "silent_s"), [(0.5, SILENT_S), (60.0, SILENT_S), (600.0, 300.0)])
def test_who_gives_a_slow_machine_time_gives_an_idle_worker_time_too(
    tmp_path: Path, hang_s: float, silent_s: float
) -> None:
    assert plan_bounds(Settings(state=tmp_path, worker_hang_s=hang_s), 0).silent_s == silent_s
