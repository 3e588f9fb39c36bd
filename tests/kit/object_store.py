"""A real S3 server: rclone over a folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.ports import free_port, is_open
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for

ACCESS_KEY = "FLEETTESTACCESSKEY00"
SECRET_KEY = "fleet-test-secret-key-0123456789abcdefgh"


@dataclass(frozen=True)
class ObjectStore:
    endpoint: str
    bucket: str
    folder: Path

    def url(self, prefix: str) -> str:
        """Return the address for one controller: the server is shared by all tests."""
        return f"s3://{self.bucket}/{prefix}?endpoint={self.endpoint}"

    def digests_below(self, prefix: str) -> set[str]:
        """Return the names of the objects that lie under a prefix."""
        return {file.name for file in (self.folder / self.bucket / prefix).rglob("*") if file.is_file()}


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    (folder / "models").mkdir(parents=True)
    port = free_port()
    rclone = Path(sys.executable).with_name("rclone")
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    server = subprocess.Popen(
        [str(rclone), "serve", "s3", "--auth-key", keys, "--addr", f"127.0.0.1:{port}", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("the object store to listen", lambda: is_open(port), timeout_s=30)
        yield ObjectStore(f"http://127.0.0.1:{port}", "models", folder)
    finally:
        end_process(server)
