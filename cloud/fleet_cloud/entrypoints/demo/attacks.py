"""Two attacks that must fail: a damaged blob, and a stranger's assignment."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import paho.mqtt.publish
from paho.mqtt.enums import MQTTProtocolVersion

from fleet_cloud.bootstrap.strangers import open_trust, read_certificate_name
from fleet_cloud.client import Client
from fleet_cloud.entrypoints.demo.processes import DemoError
from fleet_cloud.entrypoints.demo.waiting import wait_for
from fleet_shared.messages.desired import Desired, Policy
from fleet_shared.names import DeviceId
from fleet_shared.topics import Channel, Topics


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    what: str
    code: str
    why: str


def push_damaged_blob(client: Client, model: str, device: str, variant: str, blobs: Path) -> Refusal:
    """Flip one byte in each stored form of a variant's model, and push that variant to a device."""
    installed = client.device(device).reported
    if installed is None or installed.active is None:
        raise DemoError(f"{device} runs nothing yet")
    name, _, number = model.partition(":")
    versions = client.version(name, number)
    keep = {d for v in versions.variants if v.name == installed.active.variant for d in v.blobs.values()}
    with _flipped_byte(blobs, keep):
        rollout = client.create_rollout(
            model, f"id={device}", variant=variant, policy=Policy(soak_s=1, deadline_s=120)
        )
        ended = wait_for(
            f"{device} to refuse the damaged blob",
            lambda: found if (found := client.rollout(rollout.id)).state != "running" else None,
        )
    (assignment,) = ended.assignments
    if assignment.state != "failed" or assignment.failure is None:
        raise DemoError(f"{device} accepted a damaged blob: {assignment.state}", code="demo.attack.succeeded")
    return Refusal(
        device=device,
        what="a blob with one flipped byte",
        code=assignment.failure.code,
        why=assignment.failure.message,
    )


def publish_foreign_desired(client: Client, device: str, broker: str, stolen: Path, folder: Path) -> Refusal:
    """Publish a desired state for ``device`` that a stranger's key signed: a stranger who has the
    controller's own key to the broker, from the folder ``stolen``. It may say anything there, and assign
    nothing."""
    now_ms = int(time.time() * 1000)
    desired = Desired(
        device=DeviceId(device),
        key_epoch=1,
        generation=1_000_000,
        serial=0,
        issued_ms=now_ms,
        expires_ms=now_ms + 3_600_000,
    )
    logging.getLogger("paho").addHandler(logging.NullHandler())  # it reports its own disconnect as an error
    address = urlsplit(broker.split(" ", maxsplit=1)[0])
    paho.mqtt.publish.single(
        Topics().device(DeviceId(device), Channel.DESIRED),
        open_trust(folder).sign_desired(desired),
        qos=1,
        hostname=address.hostname or "127.0.0.1",
        port=address.port or 8883,
        client_id=read_certificate_name(stolen / "controller.pem"),
        tls={
            "ca_certs": str(stolen / "authorities.pem"),
            "certfile": str(stolen / "controller.pem"),
            "keyfile": str(stolen / "controller.key"),
        },
        protocol=MQTTProtocolVersion.MQTTv311,
    )
    event = wait_for(
        f"{device} to refuse the stranger's desired state",
        lambda: next((e for e in client.events(device) if e.name == "desired.refused"), None),
    )
    if event.failure is None:
        raise DemoError(f"{device} refused without saying why")
    return Refusal(
        device=device,
        what="a desired state signed by a foreign key",
        code=event.failure.code,
        why=event.failure.message,
    )


@contextmanager
def _flipped_byte(blobs: Path, keep: set[str]) -> Iterator[None]:
    files = [file for file in blobs.rglob("*") if file.is_file() and file.name not in keep]
    for file in files:
        _flip(file)
    try:
        yield
    finally:
        for file in files:
            _flip(file)


def _flip(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        (byte,) = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 1]))
