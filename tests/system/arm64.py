"""What ``make test-arm64`` shows: ``python -m tests.system.arm64 ROOT FOLDER``, called by
scripts/test-arm64 as root, in namespaces of its own. ROOT is an unpacked arm64 Debian with the agent's
bundle in /bundle. Each step prints what it saw; anything else than what it should see ends with an error.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from tests.kit.inference import infer, load
from tests.kit.packages import LABELS, make_package, register
from tests.kit.ports import free_port
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for
from tests.kit.world import running_world, wait_for_outcomes, wait_for_rollout

DEVICE = "pi-arm64"
STATE = "/var/lib/fleet-agent"
COMMAND = "/usr/local/bin/fleet-agent"
AS_AGENT = ("setpriv", "--reuid=fleet-agent", "--regid=fleet-agent", "--init-groups")
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
"""Nothing of this checkout's environment helps inside."""

EMULATED = Policy(soak_s=1.0, deadline_s=600.0)
"""Everything takes about ten times as long as on a device."""


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def run_inside(root: Path, *words: str, environment: dict[str, str] | None = None, code: int = 0) -> str:
    """Run ``words`` in the root; return what it printed."""
    done = subprocess.run(
        ["chroot", str(root), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**CLEAN, **(environment or {})},
        check=False,
    )
    assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def install(root: Path, *options: str, environment: dict[str, str] | None = None) -> str:
    words = ("/bundle/install.sh", "--wheels", "/bundle/wheels", "--runtime", "tflite", *options)
    return run_inside(root, *words, environment=environment)


@contextmanager
def running_agent(root: Path, log: Path, port: int) -> Iterator[None]:
    words = [*AS_AGENT, COMMAND, "run", "--state", STATE, "--http-port", str(port)]
    with log.open("ab") as file:
        process = subprocess.Popen(["chroot", str(root), *words], stdout=file, stderr=file, env=CLEAN)
    try:
        yield
    except BaseException:
        print(log.read_text()[-4000:])
        raise
    finally:
        code = end_process(process)
    assert code == 0, f"the agent ended with {code}"


def show_install(root: Path, client: Client, url: str) -> None:
    token = {"FLEET_AGENT_TOKEN": client.create_token({}, life_s=600)}
    print(install(root, "--url", url, "--id", DEVICE, environment=token), end="")
    again = install(root, "--url", url, "--id", DEVICE)
    assert "nothing to change" in again, again
    say("a second run changes nothing")
    status = run_inside(root, *AS_AGENT, COMMAND, "status", "--state", STATE)
    assert DEVICE in status, status
    print(status, end="")


def show_push(client: Client, port: int) -> None:
    reported = wait_for("the device to report itself", lambda: client.device(DEVICE).reported, 300)
    say(f"the controller knows it: {reported.facts}")
    version = register(client, "tiny", make_package())
    rollout = client.create_rollout("tiny", "all", variant=None, policy=EMULATED)
    ended = wait_for_rollout(client, rollout.id, timeout_s=600)
    assert [one.state for one in ended.assignments] == ["succeeded"], ended
    (outcome,) = wait_for_outcomes(client, DEVICE, 1)
    say(f"{outcome.name} {version.model}:{version.version}: {outcome.detail}")
    assert outcome.detail["runtime"] == "tflite_runtime"
    answer = infer(port, "tiny", [("x", np.full((1, 8), 0.5, np.float32))])
    say(f"inference answers: {answer}")
    (output,) = answer["outputs"]
    assert output["shape"] == [1, len(LABELS)]
    assert abs(sum(output["data"]) - 1) < 1e-5, "a softmax sums to one"
    assert load(port, "")["name"], "the server tells its name"


def show_uninstall(root: Path) -> None:
    print(run_inside(root, "/bundle/install.sh", "--uninstall"), end="")
    assert not (root / "opt/fleet-agent").exists()
    assert (root / STATE[1:] / "identity/device.json").exists(), "the state stays"
    run_inside(root, "/bundle/install.sh", "--uninstall", "--purge")
    assert not (root / STATE[1:]).exists()


def main(words: Sequence[str]) -> None:
    root, folder = Path(words[0]), Path(words[1])
    machine = run_inside(root, "uname", "-m").strip()
    assert machine == "aarch64" != platform.machine(), machine
    say(f"an {machine} Debian on {platform.machine()}: {run_inside(root, 'python3', '--version').strip()}")
    with running_world(folder) as world, world.client() as client:
        show_install(root, client, world.controller.url)
        port = free_port()
        with running_agent(root, folder / "agent.log", port):
            show_push(client, port)
            print(run_inside(root, *AS_AGENT, COMMAND, "doctor", "--state", STATE), end="")
        say("the agent ended as it was asked to")
        show_uninstall(root)
    say("arm64: passed")


if __name__ == "__main__":
    assert os.geteuid() == 0, "this needs root: make test-arm64"
    main(sys.argv[1:])
