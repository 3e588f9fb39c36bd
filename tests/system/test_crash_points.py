"""A real agent is killed (SIGKILL) after everything that an update writes down, is started again, and
comes to rest: on a real broker and controller, with a real worker and trust child.

``make test-long`` takes every point and prints the table; it is kept under ``.bench/``, where runs of a
part (``-k soaking``) add to it. `make test` takes one point of each state.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit.crashing_agent import Lane, Row, Scenario
from tests.kit.mosquitto import mosquitto_broker
from tests.kit.world import ROOT, World, running_world

pytestmark = pytest.mark.system

LANES = ("pi-1", "pi-2")
TABLE = ROOT / ".bench" / "crash-points.json"
SAVED = "fsync-folder|.|1"

ONE_OF_EACH = [
    (Scenario.GOOD, "settled|fsync|.update.json.tmp|1"),
    (Scenario.GOOD, f"downloading|{SAVED}"),
    (Scenario.GOOD, f"verifying|{SAVED}"),
    (Scenario.GOOD, f"self-testing|{SAVED}"),
    (Scenario.GOOD, f"switching|{SAVED}"),
    (Scenario.GOOD, "switching|fsync-folder|.|2"),  # the pointers are written
    (Scenario.GOOD, f"soaking|{SAVED}"),
    (Scenario.GOOD, f"succeeded|{SAVED}"),
    (Scenario.GOOD, "succeeded|commit|outbox.db|1"),  # the outcome is stored
    (Scenario.FAILS_SELF_TEST, f"failed|{SAVED}"),
    (Scenario.FAILS_SOAK, f"rolling-back|{SAVED}"),
    (Scenario.FAILS_SOAK, f"rolled-back|{SAVED}"),
]

STATES = {
    Scenario.GOOD: (
        "settled", "downloading", "verifying", "self-testing", "switching", "soaking", "succeeded",
    ),
    Scenario.FAILS_SELF_TEST: ("self-testing", "failed"),
    Scenario.FAILS_SOAK: ("soaking", "rolling-back", "rolled-back"),
}  # fmt: skip
"""Before the states that are named here the bad updates do what the good one does."""


@pytest.fixture(scope="module")
def broken_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("crashes")
    with mosquitto_broker(folder) as broker, running_world(folder, {"broker": broker.url}) as world:
        yield world


@pytest.fixture(scope="module")
def lanes(broken_world: World) -> Iterator[list[Lane]]:
    """Two devices side by side, each with a model of its own."""
    with ThreadPoolExecutor(len(LANES)) as pool:
        made = list(pool.map(lambda name: Lane(broken_world, name), LANES))
    yield made
    for lane in made:
        lane.check_outcomes()


@pytest.fixture(scope="module")
def points(lanes: list[Lane]) -> Callable[[Scenario], list[str]]:
    """What an update writes, recorded once."""
    found: dict[Scenario, list[str]] = {}

    def get(scenario: Scenario) -> list[str]:
        if scenario not in found:
            found[scenario] = lanes[0].record(scenario)
        return found[scenario]

    return get


def crash(lanes: list[Lane], wanted: list[tuple[Scenario, str]]) -> list[Row]:
    """Die at each of these points, on whichever device is free, and print how it ended."""
    rest = iter(wanted)
    rows: list[Row] = []

    def work(lane: Lane) -> None:
        for scenario, point in rest:
            rows.append(row := lane.run(scenario, point))
            print("{:20} {:62} {:>8} {:12} {:>8}".format(*vars_of(row)))

    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(work, lanes))
    assert len(rows) == len(wanted)
    return rows


def vars_of(row: Row) -> tuple[str, ...]:
    return row.scenario, row.point, row.live_after_kill, row.outcome, row.live_at_rest


def test_a_kill_at_one_point_of_each_state(lanes: list[Lane]) -> None:
    crash(lanes, ONE_OF_EACH)


@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "state"),
    [(scenario, state) for scenario, states in STATES.items() for state in states],
    ids=[f"{scenario.name}-{state}" for scenario, states in STATES.items() for state in states],
)
def test_a_kill_at_every_point(
    lanes: list[Lane], points: Callable[[Scenario], list[str]], scenario: Scenario, state: str
) -> None:
    found = points(scenario)
    if scenario is Scenario.GOOD:
        assert {point.partition("|")[0] for point in found} == set(STATES[scenario])
    wanted = [(scenario, point) for point in found if point.startswith(f"{state}|")]
    assert wanted
    keep(crash(lanes, wanted))


def keep(rows: list[Row]) -> None:
    """Add to the table; a point that is there already is replaced."""
    TABLE.parent.mkdir(exist_ok=True)
    old = json.loads(TABLE.read_text()) if TABLE.exists() else []
    table = {(row["scenario"], row["point"]): row for row in old}
    table |= {(row.scenario, row.point): {**row.__dict__} for row in rows}
    TABLE.write_text(json.dumps(list(table.values()), indent=1) + "\n")
