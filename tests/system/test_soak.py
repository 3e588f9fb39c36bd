"""A long life under kill -9: a real agent on a real broker and controller is updated again and again, to
good models and bad ones, and killed at random moments all the time. None bricked, none lost.

``FLEET_SOAK_UPDATES`` (40) and ``FLEET_SOAK_SEED`` (random, printed) for a shorter one, or the same again.
"""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.crashing_agent import Lane, Scenario, kill_workers
from tests.kit.mosquitto import Mosquitto
from tests.kit.waiting import wait_for
from tests.kit.world import ROOT, running_world

pytestmark = [pytest.mark.system, pytest.mark.long]

UPDATES = int(os.environ.get("FLEET_SOAK_UPDATES", "40"))
KILLS_PER_UPDATE = 5
"""As many starts as an update may need after its download before it is taken for the cause."""
UNDER_WAY = 0.8
LIFE_MAX_S = 3.0
"""An update takes a little longer than that, once it has begun."""
SOAK_S = 2.0
KINDS = (Scenario.GOOD, Scenario.GOOD, Scenario.FAILS_SELF_TEST, Scenario.FAILS_SOAK)
WORKER_TOO = 0.2
OUTBOX_BYTES_MAX = 4 * 1024 * 1024


def kill_at_random(lane: Lane, scenario: Scenario, assignment: str, chance: random.Random) -> str:
    """Let the agent live for a while, kill it, start it again; return what its record said. Most times
    the while counts from when the update is under way: a start takes longer than what comes after it."""
    if chance.random() < UNDER_WAY:
        wait_for("the update to begin", lambda: lane.knows(assignment))
    until = time.monotonic() + chance.uniform(0, LIFE_MAX_S)
    while time.monotonic() < until:  # the random moment
        lane.trouble(scenario)
        time.sleep(0.02)
    record = lane.agent.read_record()
    lane.agent.end(signal.SIGKILL)
    lane.agent.start()
    return "settled" if record["outcome_reported"] else str(record["state"])


NAMED_BY_HASH = re.compile(r"[0-9a-f]{64}|(?<=/manifests-)[0-9a-f]{2}")


def measure(state: Path) -> tuple[Counter[str], int]:
    """Return how many files there are by name, digests and hashed bins left out, and the bytes of those that
    an update writes. Release metadata grows with the releases; the log has bounds of its own."""
    files = [path for path in state.rglob("*") if path.is_file() and not path.name.startswith("agent.log")]
    names = Counter(NAMED_BY_HASH.sub("HASH", path.relative_to(state).as_posix()) for path in files)
    kept = [path for path in files if "trust" not in path.parts and not path.name.startswith("outbox.db")]
    return names, sum(path.stat().st_size for path in kept)


@pytest.mark.timeout(3600)
def test_a_device_that_is_killed_all_the_time(tmp_path: Path, mosquitto: Mosquitto) -> None:
    seed = int(os.environ.get("FLEET_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"seed {seed}")
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    began = time.monotonic()
    with running_world(tmp_path, {"broker": mosquitto.url}) as world, world.client() as client:
        lane = Lane(world, "pi-1", observed=False)
        lane.run(Scenario.GOOD, "")
        names, size = measure(lane.agent.state)
        for number in range(UPDATES):
            scenario = chance.choice(KINDS)
            assignment, version = lane.push(client, scenario, SOAK_S if scenario is Scenario.GOOD else None)
            for _ in range(KILLS_PER_UPDATE):
                killed[kill_at_random(lane, scenario, assignment, chance)] += 1
            ended[lane.rest(client, scenario, assignment, version)] += 1
            if chance.random() < WORKER_TOO:
                kill_workers(lane.agent)
                killed["worker"] += 1
            print(f"{number + 1:3} {scenario.value:20} {version:8} live {lane.good:8} kills {killed.total()}")
        lane.check_outcomes()
        lane.check_rest(client, assignment)
        assert measure(lane.agent.state)[0].keys() <= names.keys()
        assert measure(lane.agent.state)[1] < 1.1 * size
        assert (lane.agent.state / "outbox.db").stat().st_size < OUTBOX_BYTES_MAX
        totals = client.totals("pi-1")
    summary = {
        "seed": seed,
        "updates": UPDATES,
        "ended": dict(ended),
        "kills_by_state": dict(killed),
        "samples": totals.samples,
        "events": totals.events,
        "lost": totals.lost,
        "duplicates_suppressed": totals.duplicates,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(summary, indent=1))
    (ROOT / ".bench").mkdir(exist_ok=True)
    (ROOT / ".bench" / "soak.json").write_text(json.dumps(summary, indent=1) + "\n")
