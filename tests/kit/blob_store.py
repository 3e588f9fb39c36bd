"""A real HTTP server of blobs, by digest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fleet_shared.names import Digest, digest_of
from tests.kit.blob_server import BlobServer, Handler, blob_server


@dataclass
class BlobStore:
    """``fetched``: what was asked for, in order."""

    server: BlobServer
    blobs: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def put(self, *contents: bytes) -> None:
        self.blobs.update({digest_of(content): content for content in contents})

    def url_of(self, sha256: Digest) -> str:
        return f"http://127.0.0.1:{self.server.port}/{sha256}"

    def answer(self, handler: Handler) -> None:
        digest = handler.path.strip("/")
        self.fetched.append(digest)
        BlobServer(self.blobs[digest], etag=f'"{digest[:8]}"').send(handler)


@contextmanager
def blob_store() -> Iterator[BlobStore]:
    with blob_server(b"") as server:
        store = BlobStore(server)
        server.always = store.answer
        yield store
