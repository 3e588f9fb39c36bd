"""A release repository in memory, served over real HTTP, that a test signs and tampers with as it likes."""

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from fleet_shared.envelope import (
    ASSIGNMENT_KEY_TARGET,
    AUTHORITIES_TARGET,
    DESIRED_PAYLOAD_TYPE,
    AssignmentKey,
    Authorities,
    manifest_target,
)
from fleet_shared.messages.desired import Desired
from fleet_shared.names import Digest, digest_of
from fleet_shared.wire import encode

ROLES: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)
Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


def make_signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def far(days: float = 30) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


@dataclass
class Releases:
    """`publish` signs what is there and puts it up; ``files`` is what the server has, and ``responses`` what
    it does instead for a path. ``asked``: the paths that were asked for, in order."""

    thresholds: dict[str, int] = field(default_factory=lambda: {Root.type: 2, Targets.type: 2})
    files: dict[str, bytes] = field(default_factory=dict)
    responses: dict[str, Respond] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    timestamp_fields: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self) -> None:
        self.signers = {role: [make_signer() for _ in range(self.thresholds.get(role, 1))] for role in ROLES}
        self.root, self.targets = Root(expires=far(3650)), Targets(expires=far(365))
        self.snapshot, self.timestamp = Snapshot(expires=far(90)), Timestamp(expires=far(30))
        self.root.version = self.targets.version = self.snapshot.version = self.timestamp.version = 0
        self.assignment = Ed25519PrivateKey.generate()
        self.publish_root()
        self.release_key(1)

    @property
    def pinned(self) -> bytes:
        return self.files["metadata/1.root.json"]

    # -- what is released

    def release(self, path: str, content: bytes) -> None:
        self.targets.targets[path] = TargetFile.from_data(path, content, ["sha256"])
        folder, _, name = path.rpartition("/")
        self.files[f"targets/{folder}{'/' if folder else ''}{digest_of(content)}.{name}"] = content
        self.publish()

    def release_manifest(self, raw: bytes) -> Digest:
        self.release(manifest_target(digest_of(raw)), raw)
        return digest_of(raw)

    def release_authorities(self, *pems: str) -> None:
        self.release(AUTHORITIES_TARGET, encode(Authorities(pem=pems)))

    def release_key(self, epoch: int) -> None:
        signer = CryptoSigner(self.assignment)
        pem = self.assignment.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        key = AssignmentKey(key_epoch=epoch, keyid=signer.public_key.keyid, public_pem=pem.decode())
        self.release(ASSIGNMENT_KEY_TARGET, encode(key))

    def sign_desired(self, desired: Desired) -> bytes:
        envelope = Envelope(encode(desired), DESIRED_PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(self.assignment))
        return json.dumps(envelope.to_dict()).encode()

    # -- signing

    def publish(self) -> None:
        """Sign targets, snapshot and timestamp anew, each a version higher."""
        self.targets.version += 1
        self.put(f"{self.targets.version}.targets", self.targets, Targets.type)
        self.publish_snapshot()

    def publish_snapshot(self) -> None:
        self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
        self.snapshot.version += 1
        self.put(f"{self.snapshot.version}.snapshot", self.snapshot, Snapshot.type)
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.timestamp.version += 1
        self.timestamp.unrecognized_fields.update(self.timestamp_fields)
        self.put("timestamp", self.timestamp, Timestamp.type)

    def publish_root(self, also: Iterable[CryptoSigner] = ()) -> None:
        """``also``: keys of the root before, where they change."""
        self.root.version += 1
        self.root.keys.clear()
        for role, signers in self.signers.items():
            self.root.roles[role].keyids.clear()
            self.root.roles[role].threshold = self.thresholds.get(role, 1)
            for signer in signers:
                self.root.add_key(signer.public_key, role)
        self.put(f"{self.root.version}.root", self.root, Root.type, also)

    def rotate(self, role: str) -> None:
        before = list(self.signers[role])
        self.signers[role] = [make_signer() for _ in before]
        self.publish_root(also=before if role == Root.type else ())
        if role != Root.type:
            self.publish()

    def put(self, name: str, signed: Any, role: str, also: Iterable[CryptoSigner] = ()) -> None:
        metadata: Metadata[Any] = Metadata(signed)
        for signer in (*self.signers[role], *also):
            metadata.sign(signer, append=True)
        self.files[f"metadata/{name}.json"] = metadata.to_bytes()

    # -- serving

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yield the address below which ``metadata`` and ``targets`` are."""
        handler = functools.partial(_Handler, self)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self.url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, releases: Releases, *args: Any) -> None:
        self.releases = releases
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.releases.asked.append(path)
        if path in self.releases.responses:
            self.releases.responses[path](self)
            return
        content = self.releases.files.get(path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_args: object) -> None:
        return
