"""The agent under systemd's notification protocol: a real process, a real datagram socket."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.bench.agent_memory import push
from tests.kit.systemd import NotifySocket
from tests.kit.waiting import wait_for
from tests.kit.world import World

pytestmark = pytest.mark.system

WATCHDOG_S = 1.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    heard = NotifySocket(tmp_path / "notify")
    yield heard
    heard.close()


def test_systemd_hears_of_the_start_the_progress_a_held_up_loop_and_the_end(
    world: World, systemd: NotifySocket, tmp_path: Path
) -> None:
    held_up = tmp_path / "held-up"
    agent = world.add_agent(
        "pi-1",
        wrapper=(sys.executable, "-m", "tests.kit.held_up_agent", str(held_up)),
        environment=systemd.environment(WATCHDOG_S),
    )
    systemd.wait_for("READY=1")
    for _ in range(3):
        systemd.wait_for("WATCHDOG=1")
    push(world, 1)
    wait_for("the status to tell", lambda: has_heard(systemd, "STATUS=tiny:1.0.0, online"))

    held_up.touch()
    wait_for("the watchdog to be left alone", lambda: silent_for(systemd, 2 * WATCHDOG_S))
    process = psutil.Process(agent.pid)
    assert process.status() != psutil.STATUS_STOPPED
    assert process.num_threads() > 1, "the process lives, only its loop does not turn"
    held_up.unlink()
    systemd.wait_for("WATCHDOG=1")

    for child in process.children():
        assert "NOTIFY_SOCKET" not in child.environ(), "a worker is not the service"
    assert agent.end() == 0
    systemd.read()
    assert systemd.heard[-1] == "STOPPING=1"
    assert systemd.heard.count("READY=1") == 1
    assert systemd.heard[0] == "READY=1", "nothing before it is ready"


def has_heard(systemd: NotifySocket, text: str) -> bool:
    systemd.read()
    return text in systemd.heard


def silent_for(systemd: NotifySocket, seconds: float) -> bool:
    """Whether nothing fed the watchdog for so long."""
    systemd.read()
    time.sleep(seconds)
    return "WATCHDOG=1" not in systemd.read()
