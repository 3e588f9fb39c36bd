"""A real HTTP server of blobs, by digest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from fleet_shared.names import Digest, digest_of
from tests.kit.blob_server import BlobServer, Handler, blob_server, status


class Trouble(str, Enum):
    NONE = "none"
    GONE = "404"
    DAMAGED = "other bytes"
    CUT_SHORT = "each answer ends after a third of what it announces"


@dataclass
class BlobStore:
    """``fetched``: what was asked for, in order; ``trouble``: how the next answers are."""

    server: BlobServer
    blobs: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    trouble: Trouble = Trouble.NONE

    def put(self, *contents: bytes) -> None:
        self.blobs.update({digest_of(content): content for content in contents})

    def url_of(self, sha256: Digest) -> str:
        return f"http://127.0.0.1:{self.server.port}/{sha256}"

    def answer(self, handler: Handler) -> None:
        digest = handler.path.strip("/")
        self.fetched.append(digest)
        body = self.blobs[digest]
        if self.trouble is Trouble.GONE:
            status(404)(handler)
        elif self.trouble is Trouble.DAMAGED:
            BlobServer(bytes([body[0] ^ 1]) + body[1:], etag=None).send(handler)
        else:
            cut = len(body) // 3 if self.trouble is Trouble.CUT_SHORT else None
            BlobServer(body, etag=f'"{digest[:8]}"').send(handler, cut=cut)


@contextmanager
def blob_store() -> Iterator[BlobStore]:
    with blob_server(b"") as server:
        store = BlobStore(server)
        server.always = store.answer
        yield store
