"""A real agent that is killed (SIGKILL) after a named operation on its disk, and what must hold then.

The operations are told by `fleet_shared.durable`; `crash_site` listens in every process of the agent.
A kill between two operations leaves what the first one left, so one point after each of them is all
there is, for a process that is killed. (A power cut leaves less: `tests.kit.power_cut`.)
"""

import json
import signal
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from fleet_agent.slots import Pointers, Slots
from fleet_cloud.client import Client
from fleet_cloud.factory.package import Package
from fleet_shared.durable import DiskOperation
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.update import FINAL_STATES
from fleet_shared.names import Digest
from tests.kit.inference import infer
from tests.kit.packages import make_package, register, spoil
from tests.kit.waiting import wait_for
from tests.kit.world import ROOT, Agent, World, wait_for_all_until_now

SITE = Path(__file__).parent / "crash_site"
INPUT = np.full((1, 8), 0.5, dtype=np.float32)
REST_S = 150.0
_seeds = count(1)
_tokens = count(1)


class Scenario(str, Enum):
    """The three ways that an update can go."""

    GOOD = "good"
    FAILS_SELF_TEST = "fails its self-test"
    FAILS_SOAK = "fails its soak"

    @property
    def outcome(self) -> str:
        return {"good": "succeeded", "fails its self-test": "failed"}.get(self.value, "rolled-back")

    @property
    def soak_s(self) -> float:
        """A trial that is to fail must not end before."""
        return 120.0 if self is Scenario.FAILS_SOAK else 0.2


@dataclass(frozen=True)
class Row:
    """One line of the table: where it died, what it was before and after, how it ended."""

    scenario: str
    point: str
    live_after_kill: str
    outcome: str
    live_at_rest: str


@dataclass
class Lane:
    """One device with a model of its own, crashed again and again. ``good``: the version that it should
    run; ``expected``: the outcome of each assignment; ``observed``: it can be crashed at a point."""

    world: World
    name: str
    observed: bool = True
    good: str = ""
    agent: Agent = field(init=False)
    expected: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.world.folder / f"crash-{self.name}"
        self.folder.mkdir()
        state = self.world.folder / self.name
        environment = {
            "PYTHONPATH": f"{SITE}:{ROOT / 'shared'}:{ROOT / 'agent'}:{ROOT / 'cloud'}",
            "FLEET_CRASH_FOLDER": str(self.folder),
            "FLEET_CRASH_STATE": str(state),
        }
        self.agent = self.world.add_agent(self.name, environment=environment if self.observed else {})
        for _ in range(2):
            self.run(Scenario.GOOD, "")

    @property
    def model(self) -> str:
        return f"model-{self.name}"

    def record(self, scenario: Scenario) -> list[str]:
        """Return the points of one update, in the order in which they are reached."""
        (self.folder / "points").unlink(missing_ok=True)
        self.run(scenario, "")
        return list_certain(list(dict.fromkeys((self.folder / "points").read_text().splitlines())))

    def run(self, scenario: Scenario, point: str) -> Row:
        """Push, die at ``point`` (empty: not at all), start again, come to rest, and look."""
        (self.folder / "died").unlink(missing_ok=True)
        self._order(point)
        # The floor of time is written when it rises, which depends on how long the last message travelled.
        (self.agent.state / "trust" / "floor.json").unlink(missing_ok=True)
        before = self.good
        with self.world.client() as client:
            assignment, version = self.push(client, scenario)
            live = before
            if point:
                wait_for(f"{self.name} to die at {point}", lambda: self._is_dead(scenario), REST_S)
                assert (self.folder / "died").read_text().strip() == point
                assert self.agent.wait_for_end() == -signal.SIGKILL
                live = check_live(self.agent.state, {before, version})
                self._order("")
                self.agent.start()
            outcome = self.rest(client, scenario, assignment, version)
        return Row(scenario.value, point, live, outcome, self.good)

    def check_outcomes(self) -> None:
        """At the very end: each assignment has the one outcome that it had, and nothing was lost."""
        with self.world.client() as client:
            totals = wait_for_all_until_now(client, self.name)
            assert (totals.lost, totals.rejected) == (0, 0), f"{totals}"
            found = [
                (event.assignment, event.name)
                for event in client.events(self.name, limit=10_000)
                if event.name.startswith("update.")
            ]
            assert sorted(found, key=str) == sorted(self.expected.items(), key=str)

    def _order(self, point: str) -> None:
        new = self.folder / "order.new"
        new.write_text(json.dumps([str(next(_tokens)), point]))
        new.rename(self.folder / "order")

    def push(self, client: Client, scenario: Scenario, soak_s: float | None = None) -> tuple[str, str]:
        """Push a new version; return the assignment and the version."""
        package: Package = make_package(seed=next(_seeds))
        if scenario is Scenario.FAILS_SELF_TEST:
            package = spoil(package)
        version = register(client, self.model, package).version
        policy = Policy(soak_s=soak_s or scenario.soak_s, deadline_s=600)
        rollout = client.create_rollout(self.model, f"name={self.name}", variant=None, policy=policy)
        (assignment,) = wait_for("an assignment", lambda: client.rollout(rollout.id).assignments or None)
        return assignment.id, version

    def _is_dead(self, scenario: Scenario) -> bool:
        self.trouble(scenario)
        return not psutil.pid_exists(self.agent.pid) or _is_zombie(self.agent.pid)

    def trouble(self, scenario: Scenario) -> None:
        """What makes a trial fail: the worker is killed."""
        if scenario is Scenario.FAILS_SOAK and self.agent.read_record().get("state") == "soaking":
            kill_workers(self.agent)

    def rest(self, client: Client, scenario: Scenario, assignment: str, version: str) -> str:
        """Wait until the update has ended, and look at everything; return how it ended."""
        record = wait_for(f"{self.name} to come to rest", lambda: self._settled(scenario, assignment), REST_S)
        outcome = str(record["state"])
        assert outcome == scenario.outcome, f"{record}"
        self.good = version if outcome == "succeeded" else self.good
        self.expected[assignment] = f"update.{outcome}"
        self.check_rest(client, assignment)
        return outcome

    def _settled(self, scenario: Scenario, assignment: str) -> dict[str, object] | None:
        self.trouble(scenario)
        record = self.agent.read_record() if self.knows(assignment) else {}
        return record if record.get("outcome_reported") else None

    def knows(self, assignment: str) -> bool:
        """Whether the agent has taken up this assignment."""
        entry = self.agent.read_record().get("entry")
        return isinstance(entry, dict) and bool(entry["assignment"] == assignment)

    def check_rest(self, client: Client, assignment: str) -> None:
        def look() -> list[str] | None:
            events = client.events(self.name, limit=10_000)
            return [e.name for e in events if e.assignment == assignment and e.name[:7] == "update."] or None

        assert wait_for(f"the outcome of {assignment}", look, REST_S) == [self.expected[assignment]]
        wait_for("old slots to go", lambda: check_folder(self.agent.state) is None)
        assert check_live(self.agent.state, {self.good}) == self.good
        wait_for("the model to answer", self._answers, REST_S)

    def _answers(self) -> bool:
        try:
            answer = infer(self.agent.http_port, self.model, [("x", INPUT)])
        except OSError:
            return False
        return bool(answer["model_version"] == self.good)


def list_certain(points: list[str]) -> list[str]:
    """Return those by which every run comes. The floor of time is raised by the timestamp, and again by the
    order only if that was issued later than time has come since; each time its folder is brought to the disk,
    so that the last ones of these are uncertain too."""
    raised_again = [point for point in points if "|rename|trust/floor.json|" in point and _number(point) > 1]
    folders = [point for point in points if "|fsync-folder|trust|" in point]
    uncertain = set(folders[len(folders) - len(raised_again) :])
    return [point for point in points if _is_certain(point) and point not in uncertain]


def _is_certain(point: str) -> bool:
    """Commits of telemetry come when they come, but for the outcome's, which is the first one after the end
    was saved."""
    state, operation, path, number = point.split("|")
    if "floor.json" in path:
        return number == "1"
    if operation != DiskOperation.COMMIT.value:
        return True
    return number == "1" and state in {final.value for final in FINAL_STATES}


def _number(point: str) -> int:
    return int(point.rpartition("|")[2])


def kill_workers(agent: Agent) -> None:
    for child in psutil.Process(agent.pid).children():
        try:
            if "fleet_agent.worker" in child.cmdline():
                child.kill()
        except psutil.Error:
            continue


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def load_pointers(state: Path) -> Pointers:
    return Slots(state / "slots", state / "slots.json").load_pointers()


def check_live(state: Path, versions: set[str]) -> str:
    """Return the version that the pointers name; it must be one of these, and whole by its digests."""
    pointers = load_pointers(state)
    if pointers.active is None:
        assert "" in versions, "no model is live"
        return ""
    assert pointers.active.version in versions
    check_slot(state, pointers.active.manifest)
    if pointers.previous is not None:
        check_slot(state, pointers.previous.manifest)
    return pointers.active.version


def check_slot(state: Path, manifest: Digest) -> None:
    slots = Slots(state / "slots", state / "slots.json")
    raw = (slots.path(manifest) / "manifest.json").read_bytes()
    assert slots.is_whole(manifest, parse_manifest(raw).blobs), f"slot {manifest} is damaged"


def check_folder(state: Path) -> str | None:
    """Return what is left in a state folder that should not be there at rest, or none."""
    pointers = load_pointers(state)
    named = {running.manifest for running in (pointers.active, pointers.previous) if running is not None}
    slots = {path.name for path in (state / "slots").iterdir()}
    if slots != named:
        return f"slots {slots} beside {named}"
    names = [path.relative_to(state).as_posix() for path in state.rglob("*")]
    left = [name for name in names if name.endswith((".tmp", ".damaged")) or "staging" in name]
    left += [name for name in names if name.startswith("downloads/")]
    return f"left over: {left}" if left else None
