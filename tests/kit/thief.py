"""Somebody who holds what was stolen: the certificate of a controller at the broker (so whatever a stolen
broker could say), the assignment key, the online release keys, and as many targets keys as a test gives."""

import json
import shutil
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile

from fleet_cloud.adapters.trust.certificates import make_client
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.signers import KeyReference, load_key, sign_with
from fleet_cloud.services.ports import TlsFiles
from fleet_shared.envelope import DESIRED_PAYLOAD_TYPE, manifest_target
from fleet_shared.messages.desired import Desired, Policy, RunEntry
from fleet_shared.messages.reported import Order
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, digest_of
from fleet_shared.topics import Channel, Topics
from fleet_shared.wire import encode
from tests.kit.authority import key_pem, make_key
from tests.kit.broker_client import BrokerClient
from tests.kit.mirror import copy_of

NAME = "ctl-thief"
DAY_MS = 86_400_000
EVIL_VERSION = "66.6.6"
FAR = 2**40
NOBODY = AssignmentId("forged")


@dataclass(eq=False)
class Thief:
    """``folder`` gets a copy of the controller's folder ``trust``, with every key that lies in it."""

    folder: Path
    port: int
    trust: ControllerTrust = field(init=False)

    def __post_init__(self) -> None:
        self.trust = ControllerTrust(self.folder)

    @classmethod
    def of(cls, folder: Path, data: Path, port: int) -> "Thief":
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(data / "trust", folder)
        return cls(folder, port)

    # -- at the broker

    def at_the_broker(self) -> BrokerClient:
        return BrokerClient(self.port, self._tls(), NAME)

    def publish_desired(self, device: str, envelope: bytes) -> None:
        """Put it in the place of what the controller wants."""
        with self.at_the_broker() as client:
            assert client.publish(_topic(device), envelope, retain=True)

    def overhear_desired(self, device: str) -> bytes:
        """Return what the broker keeps for a device."""
        with self.at_the_broker() as client:
            assert client.subscribe(_topic(device))
            return client.get()[1]

    def publish_news(self, timestamp: bytes) -> None:
        with self.at_the_broker() as client:
            assert client.publish(Topics().releases, timestamp, retain=True)

    def _tls(self) -> TlsFiles:
        files = TlsFiles(
            self.folder / "authorities.pem", self.folder / "thief.pem", self.folder / "thief.key"
        )
        if not files.key.exists():
            key, now = make_key(), datetime.now(timezone.utc)
            signer = self.trust.authority.serving
            certificate = make_client(signer, key.public_key(), NAME, now, f"fleet:{NAME}")
            files.authorities.write_text(self.trust.authority.ca_pem)
            files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
            files.key.write_bytes(key_pem(key))
        return files

    # -- with the assignment key

    def sign(self, desired: Desired) -> bytes:
        return self.trust.sign_desired(desired)

    # -- with release keys

    def take_targets_keys(self, *files: Path, passphrase: str) -> None:
        """Have these keys at hand from now on."""
        for number, file in enumerate(files):
            key = load_key(file, lambda _name: passphrase)
            plain = self.folder / "keys" / f"stolen-{number}.pem"
            plain.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            public = SSlibKey.from_crypto(key.public_key())
            self.trust.repository.signers.add(KeyReference(f"file:keys/{plain.name}", public))

    def release(self, manifest: bytes) -> dict[str, bytes]:
        """Release it as far as the keys at hand go, and beyond: what has too few signatures is signed by a
        key of the thief's own, and served all the same. Return what a mirror then serves."""
        name, repository = digest_of(manifest), self.trust.repository
        self.trust.release({name: manifest})
        staged: dict[str, Metadata[Any]] = repository.staged()
        for role, metadata in staged.items():
            sign_with(CryptoSigner(Ed25519PrivateKey.generate()), metadata)
            repository.files.write(role, metadata)
        repository._publishing.bring_up([repository.root()], force=bool(staged))
        assert any(manifest_target(name).rpartition("/")[2] in path for path in copy_of(self.folder))
        return copy_of(self.folder)

    def fast_forward(self) -> dict[str, bytes]:
        """Sign a snapshot and a timestamp of a version that no honest release reaches; return the files."""
        files = {}
        repository = self.trust.repository
        snapshot, timestamp = repository.newest("snapshot"), repository.newest("timestamp")
        timestamp.signed.snapshot_meta = MetaFile(FAR)
        for name, metadata in ((f"{FAR}.snapshot", snapshot), ("timestamp", timestamp)):
            metadata.signed.version = FAR
            (keyid,) = repository.root().roles[metadata.signed.type].keyids
            signer = repository.signers.find(keyid)
            assert signer is not None
            metadata.sign(signer)
            files[f"metadata/{name}.json"] = metadata.to_bytes()
        return files


def make_desired(
    device: str, manifest: str, above: Order, version: str = EVIL_VERSION, **changes: Any
) -> Desired:
    """Return what a thief would have a device run, above what it has accepted."""
    now_ms = int(time.time() * 1000)
    entry = RunEntry(model=ModelName("tiny"), version=version, manifest=Digest(manifest), assignment=NOBODY)
    desired = Desired(
        device=DeviceId(device),
        key_epoch=above.key_epoch,
        generation=above.generation + 1,
        serial=0,
        issued_ms=now_ms,
        expires_ms=now_ms + DAY_MS,
        policy=Policy(soak_s=0.2, deadline_s=60),
        run=(entry,),
    )
    changed: Desired = msgspec.structs.replace(desired, **changes)
    return changed


def sign_as_a_stranger(desired: Desired) -> bytes:
    """Sign with a key that nobody released."""
    envelope = Envelope(encode(desired), DESIRED_PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(Ed25519PrivateKey.generate()))
    return json.dumps(envelope.to_dict()).encode()


def make_evil(manifest: bytes) -> bytes:
    """Return a manifest like this one, of a version that no operator made."""
    document = json.loads(manifest)
    document["version"] = EVIL_VERSION
    return json.dumps(document).encode()


def _topic(device: str) -> str:
    return Topics().device(DeviceId(device), Channel.DESIRED)
