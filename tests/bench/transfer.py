"""How fast a model comes over HTTP, and in parts over MQTT, on the same link.

A real controller and a real broker; the device's own downloads, alone on the link. The slow link is a relay
in front of both that lets so many bytes a second through to the device.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.identity import Identity, load_identity
from fleet_agent.transfer.ways import Transfers
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.messages.desired import Policy
from fleet_shared.names import AssignmentId
from tests.kit.cable import cable_to
from tests.kit.mosquitto import mosquitto_broker
from tests.kit.packages import make_package, register
from tests.kit.puller import pulling
from tests.kit.world import Agent, World, running_world, wait_for_rollout

BIG: Final = 16_000_000
LINKS: Final = {"loopback": None, "1 MB/s": 1_000_000.0, "100 kB/s": 100_000.0}
SIZES: Final = {"loopback": 16_000_000, "1 MB/s": 3_000_000, "100 kB/s": 500_000}
"""So much of the model is fetched: the rest of it is there already."""


def measure_transfer() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name, mosquitto_broker(Path(name)) as mosquitto:
        folder = Path(name)
        external = _measure(folder / "external", "Mosquitto", {"broker": mosquitto.url}, mosquitto.port)
        return [*external, *_measure(folder / "embedded", "embedded, mutual TLS", {}, None)]


def _measure(folder: Path, broker: str, options: dict[str, str], port: int | None) -> list[dict[str, object]]:
    folder.mkdir()
    with running_world(folder, options) as world:
        identity, assignment, blob, content = _assign(world)
        state = world.agents[0].state
        rows = []
        for link, bytes_per_s in LINKS.items():
            ports = (port or world.controller.broker_port, world.controller.port)
            with _through(identity, ports, bytes_per_s) as routed, pulling(routed, state) as device:
                for way in (Transfers.HTTP, Transfers.MQTT):
                    downloads = folder / link.replace("/", "-") / way.value
                    downloads.mkdir(parents=True)
                    have = len(content) - min(len(content), SIZES[link])
                    (downloads / f"{blob.sha256}.part").write_bytes(content[:have])
                    begin_s = time.monotonic()
                    counted = device.pull(way, assignment, blob.sha256, blob.size_bytes, downloads)
                    took_s = time.monotonic() - begin_s
                    rows.append(
                        {
                            "broker": broker,
                            "link": link,
                            "way": way.value,
                            "bytes": counted.fetched,
                            "seconds": round(took_s, 2),
                            "mb_per_s": round(counted.fetched / took_s / 1e6, 2),
                        }
                    )
        return rows


def _assign(world: World) -> tuple[Identity, AssignmentId, BlobRef, bytes]:
    """Let a real device take the model, so that there is an assignment; then let it leave the broker."""
    package = make_package(seed=1, padding_bytes=BIG)
    agent: Agent = world.add_agent("pi-1")
    with world.client() as client:
        register(client, "tiny", package)
        rollout = client.create_rollout(
            "tiny", "all", variant=None, policy=Policy(soak_s=0.2, deadline_s=300)
        )
        view = wait_for_rollout(client, rollout.id, timeout_s=300)
    assert view.state == "succeeded", view
    assert agent.end() == 0
    blob = package.refs[Role.MODEL]
    identity = load_identity(agent.state / "identity")
    return identity, AssignmentId(view.assignments[0].id), blob, package.blobs[Role.MODEL]


@contextmanager
def _through(identity: Identity, ports: tuple[int, int], bytes_per_s: float | None) -> Iterator[Identity]:
    """What the device believes of its broker and controller, with relays in front of both."""
    if bytes_per_s is None:
        yield identity
        return
    with ExitStack() as stack:
        broker, controller = (stack.enter_context(cable_to(port, bytes_per_s)) for port in ports)
        address = msgspec.structs.replace(identity.broker, port=broker.port)
        url = f"http://127.0.0.1:{controller.port}"
        yield msgspec.structs.replace(identity, broker=address, controller_url=url)
