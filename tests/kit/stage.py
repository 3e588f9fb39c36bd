"""A fleet to attack, of real processes: a controller with its embedded broker, whose root and targets keys
are with two people, a mirror before it, and an agent that was enrolled through the mirror and serves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleet_cloud.adapters.trust.ceremony import make_key, resolve_uri
from fleet_cloud.adapters.trust.signing import Signing
from fleet_cloud.client import Client
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Order, Reported
from tests.kit.asking import Asking, asking
from tests.kit.commands import run_fleet
from tests.kit.mirror import Mirror, mirror_of
from tests.kit.packages import make_package, register
from tests.kit.thief import Thief
from tests.kit.waiting import wait_for
from tests.kit.wall_clock import WallClock
from tests.kit.world import Agent, World, running_world, wait_for_rollout

DEVICE = "pi-1"
OTHER = "pi-2"
PASSPHRASE = "correct horse battery"
POLICY = Policy(soak_s=0.2, deadline_s=300)
IMPATIENT = {"FLEET_AGENT_RETRY_CEILING_S": "0.5"}


@dataclass(eq=False)
class Stage:
    """``pushed``: the versions that operators pushed, so that may ever answer."""

    world: World
    client: Client
    agent: Agent
    mirror: Mirror
    clock: WallClock
    safe: Path
    asked: Asking | None = None
    pushed: list[str] = field(default_factory=list)
    signers: tuple[str, ...] = ("targets-a", "targets-b")

    @property
    def trust(self) -> Path:
        return self.world.folder / "controller" / "trust"

    def thief(self) -> Thief:
        """Return somebody who has just copied all that lies at the controller."""
        folder = self.world.folder / "stolen"
        return Thief.of(folder, self.world.folder / "controller", self.world.controller.broker_port)

    # -- what operators do

    def key(self, name: str) -> Path:
        return self.safe / f"{name}.pem"

    def sign(self, *names: str) -> None:
        keys = [resolve_uri(str(self.key(name))) for name in names]
        signing = Signing(self.client.to_sign(), keys, lambda _name: PASSPHRASE)
        assert self.client.put_signed(signing.sign()[0]).waiting == []

    def release(self) -> None:
        """Register a version that nobody has, and sign it by both people."""
        made = register(self.client, "tiny", make_package(seed=len(self.pushed) + 1))
        self.sign(*self.signers)
        self.pushed.append(made.version)

    def order(self, to: str = f"name={DEVICE}") -> str:
        """Let the newest version run; return the rollout."""
        return self.client.create_rollout(f"tiny:{self.pushed[-1]}", to, variant=None, policy=POLICY).id

    def expect_success(self, rollout: str) -> None:
        ended = wait_for_rollout(self.client, rollout)
        assert ended.state == "succeeded", ended
        wait_for("the device to say so", lambda: self.running == self.pushed[-1])

    def push(self) -> None:
        """Release and order, and see it run."""
        self.release()
        self.expect_success(self.order())

    def replace(self, role: str) -> None:
        """Give a role of the controller another key: the root names it, the assignment key is a target."""
        self.client.rotate(role, [], None)
        self.sign(*(self.signers if role == "assignment" else ("root-a", "root-b")))

    def replace_targets(self, *names: str) -> None:
        """Let other people sign releases from now on."""
        for name in names:
            make_key(self.key(name), PASSPHRASE)
        public = [self.key(name).with_name(f"{name}.pub.json").read_text() for name in names]
        self.client.rotate("targets", public, 2)
        self.sign("root-a", "root-b", *self.signers, *names)
        self.signers = names

    def let_another_run(self) -> str:
        """Have a device of its own that took an order, and is off again; return its name."""
        other = _add_agent(self.world, OTHER, self.mirror, self.clock)
        assert wait_for_rollout(self.client, self.order(f"name={OTHER}")).state == "succeeded"
        assert other.end() == 0
        return OTHER

    # -- what the device says

    @property
    def reported(self) -> Reported:
        found = self.client.device(DEVICE).reported
        assert found is not None
        return found

    @property
    def running(self) -> str:
        active = self.reported.active
        return "" if active is None else active.version

    def read_manifest(self) -> bytes:
        """Return the manifest of what the device runs."""
        active = self.reported.active
        assert active is not None
        (file,) = (self.trust / "targets" / "manifests").glob(f"{active.manifest}.*")
        return file.read_bytes()

    @property
    def accepted(self) -> Order:
        return self.reported.accepted

    def wait_until_calm(self) -> int:
        """Wait until the device has no trouble; return the time."""
        wait_for("the device to have no trouble", lambda: not self.reported.trouble)
        return int(time.time() * 1000)

    def find_refusals(self, since_ms: int) -> set[str]:
        """Return the codes that the device told of since then, and has trouble with now."""
        events = self.client.events(DEVICE, since_ms=since_ms)
        told = {one.failure.code for one in events if one.failure is not None}
        return told | {one.code for one in self.reported.trouble}

    def expect_refusal(self, code: str, since_ms: int) -> None:
        def look() -> bool:
            return code in self.find_refusals(since_ms)

        try:
            wait_for(f"the device to refuse with {code}", look, 40)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it told {self.find_refusals(since_ms)}") from None

    def check_answers(self) -> None:
        """Nothing but what operators pushed ever answered, each version always the same, and each time."""
        asked = self.asked
        assert asked is not None
        assert asked.failures == []
        assert set(asked.answers) <= set(self.pushed)
        assert len(asked.said) == len(asked.answers), "a version answered what it did not before"


@contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    safe = folder / "safe"
    begin(folder / "controller", safe)
    with running_world(folder) as world, mirror_of(world.controller.port) as mirror, world.client() as client:
        clock = WallClock(folder)
        clock.set(0)
        found = Stage(world, client, _add_agent(world, DEVICE, mirror, clock), mirror, clock, safe)
        found.push()
        with asking(found.agent.http_port) as asked:
            found.asked = asked
            yield found


def _add_agent(world: World, name: str, mirror: Mirror, clock: WallClock) -> Agent:
    return world.add_agent(name, controller_url=mirror.url, environment={**clock.environment, **IMPATIENT})


def begin(data: Path, safe: Path) -> None:
    """Two people, both of whom must agree to a release."""
    for name in ("root-a", "root-b", "targets-a", "targets-b"):
        make_key(safe / f"{name}.pem", PASSPHRASE)
    words = [
        word
        for role in ("root", "targets")
        for one in ("a", "b")
        for word in (f"--{role}", str(safe / f"{role}-{one}.pem"))
    ]
    thresholds = ["--root-threshold", "2", "--targets-threshold", "2"]
    begun = run_fleet(
        "-", "trust", "init", "--data", str(data), *words, *thresholds,
        environment={"FLEET_TRUST_PASSPHRASE": PASSPHRASE},
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr
