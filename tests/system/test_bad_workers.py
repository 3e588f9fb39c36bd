"""Models that crash, hang, leak, fail or are slow, on a device that serves: what the controller gets to
know, and who answers.

One device for all of them: each bad version comes on top of the good one, which must be there afterwards.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet_cloud.client import AssignmentView, Client
from fleet_cloud.client.views import EventView
from fleet_cloud.factory.package import Package
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure, WorkerState
from tests.kit.asker import Asker
from tests.kit.commands import run_fleet
from tests.kit.engine import package_of
from tests.kit.faulty_worker import spoil
from tests.kit.packages import make_package, register
from tests.kit.tiny_model import make_tiny_model
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, running_world, wait_for_rollout

pytestmark = pytest.mark.system

HANG_S = 2.0
MEMORY = 300 * 1024 * 1024
"""Several times what LiteRT and a tiny model need."""
GROWTH = 32 * 1024 * 1024
REQUEST = 3
OWN_ERROR = "it does not work"
ENVIRONMENT = {
    "FLEET_AGENT_WORKER_HANG_S": str(HANG_S),
    "FLEET_AGENT_WORKER_GROWTH_BYTES_MAX": str(GROWTH),
    "FLEET_AGENT_WORKER_GROWTH_WINDOW_S": "1",
    "FLEET_AGENT_WORKER_RESTARTS": "1",
    "FLEET_AGENT_WORKER_SLOW_RESTART_S": "600",
}


@dataclass
class Site:
    """A device that runs tiny:1.0.0, and its controller."""

    world: World
    agent: Agent
    client: Client
    seed: int = 1

    def make(self, fault: str, request: int = 1) -> Package:
        """Return the next version, with a fault from its ``request`` on."""
        self.seed += 1
        model = make_tiny_model(seed=self.seed)
        samples = package_of(model, [(1, 8)]).contract.golden.samples
        return package_of(spoil(model, fault, samples + request), [(1, 8)])

    def push(self, package: Package, **policy: object) -> tuple[str, AssignmentView]:
        """Return the version, and its assignment once the rollout has ended."""
        version = register(self.client, "tiny", package).version
        asked = Policy(**{"soak_s": 1.0, "deadline_s": 60.0, **policy})  # type: ignore[arg-type]
        rollout = self.client.create_rollout(f"tiny:{version}", "all", variant=None, policy=asked)
        (assignment,) = wait_for_rollout(self.client, rollout.id).assignments
        return version, assignment

    def event(self, name: str, assignment: str) -> EventView:
        def look() -> EventView | None:
            events = self.client.events("pi-1")
            return next((one for one in events if (one.name, one.assignment) == (name, assignment)), None)

        return wait_for(f"the event {name}", look)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_world(tmp_path_factory.mktemp("bad-workers")) as world, world.client() as client:
        wrapper = [sys.executable, "-m", "tests.kit.faulty_agent"]
        agent = world.add_agent("pi-1", wrapper=wrapper, environment=ENVIRONMENT)
        one = Site(world, agent, client)
        _, assignment = one.push(make_package(seed=1), soak_s=0.2)
        assert assignment.state == "succeeded"
        yield one


@pytest.fixture
def asker(site: Site) -> Iterator[Asker]:
    """Asks all the time, and has got answers of the good version before and after."""
    with Asker(site.agent.http_port, "tiny") as one:
        wait_for("the good version to answer", lambda: one.count("1.0.0") >= 30)
        yield one


def expect_back(asker: Asker) -> None:
    count = len(asker.answers)
    wait_for(
        "the good version to answer again", lambda: "1.0.0" in {a.version for a in asker.answers[count:]}
    )


def test_a_worker_yields_to_its_agent_and_to_the_kernel(site: Site) -> None:
    agent = psutil.Process(site.agent.pid)
    workers = [child for child in agent.children() if "tests.kit.faulty_worker" in child.cmdline()]
    assert workers
    for worker in workers:
        assert worker.nice() == min(19, agent.nice() + 5)
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "500"


# -- before the switch: nobody notices but the controller


@pytest.mark.parametrize(
    ("fault", "code", "detail"),
    [
        ("load-segfault", "worker.crashed", {"worker_signal": "SIGSEGV", "worker_doing": "loading"}),
        ("load-exit", "worker.exited", {"worker_exit_code": 3, "worker_doing": "loading"}),
    ],
)
def test_a_worker_that_ends_while_it_loads(
    site: Site, asker: Asker, fault: str, code: str, detail: dict[str, object]
) -> None:
    _, assignment = site.push(site.make(fault))
    assert assignment.failure is not None
    assert (assignment.state, assignment.failure.code) == ("failed", code)
    assert "it was loading the model" in assignment.failure.message
    outcome = site.event("update.failed", assignment.id)
    assert outcome.detail.items() >= detail.items()
    assert site.event("worker.exited", assignment.id).detail["in_inference"] is False
    assert asker.versions == ["1.0.0"], asker.answers


@pytest.mark.long
def test_a_model_that_hangs_in_its_self_test(site: Site, asker: Asker) -> None:
    _, assignment = site.push(site.make("hang", request=0))
    assert assignment.failure is not None
    assert (assignment.state, assignment.failure.code) == ("failed", "worker.hung")
    assert "self-testing, in inference" in assignment.failure.message
    assert asker.versions == ["1.0.0"], asker.answers


# -- after the switch: back by itself


@dataclass(frozen=True)
class Trial:
    """What the controller got, and how many requests nobody answered."""

    failure: Failure
    evidence: dict[str, Any]
    assignment: str
    unanswered: int


def take_back(site: Site, package: Package, asker: Asker, **policy: object) -> Trial:
    """Push it and let its trial fail. Until the bad version itself answers (well or badly) the good one must
    answer everything, and in the end it must again."""
    before = len(asker.answers)
    version, assignment = site.push(package, **policy)
    assert assignment.failure is not None
    assert assignment.state == "rolled-back", assignment
    outcome = site.event("update.rolled-back", assignment.id)
    assert outcome.failure == assignment.failure
    expect_back(asker)
    reported = site.client.device("pi-1").reported
    assert reported is not None
    assert reported.active is not None
    assert reported.active.version == "1.0.0"
    answers = asker.answers[before:]
    first = next(answer for answer in answers if answer.version != "1.0.0")
    assert first.version == version or OWN_ERROR in first.trouble, first
    unanswered = sum(answer.version is None for answer in answers)
    return Trial(assignment.failure, outcome.detail, assignment.id, unanswered)


def test_a_worker_that_segfaults_on_its_third_request(site: Site, asker: Asker) -> None:
    trial = take_back(site, site.make("segfault", REQUEST), asker, soak_inferences=100)
    assert trial.failure.code == "worker.crashed"
    assert "crashed with SIGSEGV; it was serving, in inference" in trial.failure.message
    detail = site.event("worker.exited", trial.assignment).detail
    assert (detail["signal"], detail["doing"], detail["in_inference"]) == ("SIGSEGV", "serving", True)
    samples = package_of(make_tiny_model(seed=1), [(1, 8)]).contract.golden.samples
    assert detail["inferences"] == samples + REQUEST - 1
    assert (trial.evidence["soak_restarts"], trial.evidence["soak_restarts_max"]) == (1, 0)
    assert trial.unanswered == 1, "the one that it crashed on; others wait for the next worker"


@pytest.mark.parametrize("fault", ["hang-with-the-interpreter", pytest.param("hang", marks=pytest.mark.long)])
def test_a_worker_that_hangs_in_an_inference(site: Site, asker: Asker, fault: str) -> None:
    """No thread of the worker can speak in the first case, all others can in the second."""
    trial = take_back(site, site.make(fault, REQUEST), asker, soak_inferences=100)
    assert trial.failure.code == "worker.hung"
    assert "made no progress for" in trial.failure.message
    assert trial.evidence["worker_busy_s"] >= HANG_S
    assert trial.evidence["worker_bound_s"] == HANG_S
    assert trial.unanswered == 1, "the one that it hung in; others wait for the next worker"


def test_a_worker_that_leaks(site: Site, asker: Asker) -> None:
    policy = {"soak_inferences": 10_000, "memory_bytes_max": MEMORY, "worker_restarts_max": 3}
    trial = take_back(site, site.make("leak", REQUEST), asker, **policy)
    assert trial.failure.code == "worker.memory"
    # It may have leaked before it was looked at for the first time.
    assert trial.evidence["worker_rss_bytes"] > MEMORY
    assert trial.evidence["worker_rss_bytes"] >= trial.evidence["worker_rss_start_bytes"]
    assert trial.evidence["worker_bound_bytes"] == MEMORY
    assert trial.evidence["worker_inferences"] > 0


def test_a_model_that_fails_every_request(site: Site, asker: Asker) -> None:
    trial = take_back(site, site.make("fail"), asker, soak_inferences=50)
    assert trial.failure.code == "soak.errors"
    assert trial.evidence["soak_errors"] == trial.evidence["soak_requests"] > 0


def test_a_model_that_is_slower_than_the_one_before(site: Site, asker: Asker) -> None:
    trial = take_back(site, site.make("slow"), asker, soak_inferences=20, latency_ratio_max=5.0)
    assert trial.failure.code == "soak.latency"
    assert trial.evidence["soak_latency_p50_us"] > 30_000
    assert trial.evidence["soak_latency_before_requests"] >= 10
    assert trial.evidence["soak_latency_ratio"] > 5.0
    assert trial.unanswered == 0, "slow answers are answers"


@pytest.mark.long
def test_a_trial_whose_inferences_do_not_come(site: Site) -> None:
    """The device ends it at the deadline, and the controller waits for what it says."""
    _, assignment = site.push(make_package(seed=99), soak_inferences=10, deadline_s=5.0)
    assert assignment.state == "rolled-back"
    outcome = site.event("update.rolled-back", assignment.id)
    assert outcome.failure is not None
    assert outcome.failure.code == "soak.inferences"
    assert outcome.detail["soak_requests"] == 0
    assert "timed-out" not in [change.state for change in site.client.history(assignment.id)]


# -- after the trial


@pytest.mark.long
def test_a_slow_leak_is_noticed_long_before_the_bound_and_the_worker_replaced(site: Site) -> None:
    version, assignment = site.push(site.make("slow-leak"), soak_s=0.2)
    assert assignment.state == "succeeded"
    with Asker(site.agent.http_port, "tiny") as asker:
        ended = site.event("worker.exited", assignment.id)
        count = asker.count(version)
        wait_for("the next worker to answer", lambda: asker.count(version) > count)
    assert ended.failure is not None
    assert ended.failure.code == "worker.memory"
    assert "and goes on rising" in ended.failure.message
    assert ended.detail["risen_bytes"] > GROWTH
    assert ended.detail["rss_bytes"] < MEMORY
    assert asker.count(None) <= 1, "others wait for the next worker"
    assert asker.versions[-1] == version


@pytest.mark.long
def test_a_model_that_crashes_again_and_again_after_its_trial_is_given_up_aloud(site: Site) -> None:
    """It is tried again, slowly, and the controller sees it; the next version ends it."""
    _, assignment = site.push(site.make("segfault"), soak_s=0.2)
    assert assignment.state == "succeeded"
    with Asker(site.agent.http_port, "tiny", timeout_s=2.0):
        given_up = site.event("worker.given_up", assignment.id)
    assert given_up.failure is not None
    assert given_up.failure.code == "worker.given_up"
    assert given_up.detail == {"restarts": 2, "last_code": "worker.crashed"}

    def look() -> bool:
        reported = site.client.device("pi-1").reported
        worker = None if reported is None else reported.worker
        return worker is not None and worker.state is WorkerState.GIVEN_UP

    wait_for("the report to say so", look)
    shown = run_fleet(site.world.controller.url, "device", "show", "pi-1").stdout
    assert "ended too often in a row, and is tried again from time to time (2 restarts in a row)" in shown
    assert "worker.crashed: " in shown
    version, assignment = site.push(make_package(seed=100), soak_s=0.2)
    assert assignment.state == "succeeded"
    with Asker(site.agent.http_port, "tiny") as asker:
        wait_for("the next version to answer", lambda: asker.count(version) > 0)
