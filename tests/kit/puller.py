"""A device that fetches blobs of an assignment, and does nothing else: its own connection, questions and
downloads, without a supervisor."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

from fleet_agent.floor import judge_time
from fleet_agent.identity import Identity
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import Connection
from fleet_agent.link.events import Connected, LinkEvent, MessageReceived
from fleet_agent.paths import StatePaths
from fleet_agent.tls import broker_context
from fleet_agent.transfer.answer import HttpSource
from fleet_agent.transfer.broker import BrokerSource
from fleet_agent.transfer.download import Counted, Downloader
from fleet_agent.transfer.flow import Flow
from fleet_agent.transfer.questions import Questions
from fleet_agent.transfer.response import Source
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.transfer.ways import Transfers
from fleet_shared.messages.fetch import Fetch, decode_chunk
from fleet_shared.names import AssignmentId, Digest
from fleet_shared.topics import Channel, Topics
from fleet_shared.wire import encode

CONNECT_WITHIN_S = 20.0


@dataclass
class Puller:
    identity: Identity
    link: Connection
    questions: Questions
    aborted: threading.Event = field(default_factory=threading.Event)

    def source(self, way: Transfers, assignment: AssignmentId) -> Source:
        if way is Transfers.MQTT:
            return BrokerSource(self.questions, assignment, Flow())
        urls = BlobUrls(self.identity.controller_url, self.questions)
        return HttpSource(partial(urls.ask, assignment, aborted=self.aborted))

    def pull(
        self, way: Transfers, assignment: AssignmentId, sha256: Digest, size_bytes: int, folder: Path
    ) -> Counted:
        source = self.source(way, assignment)
        backoff = Backoff(0.1, 1.0, lambda: 0.5)
        downloader = Downloader(folder, source, lambda _count: None, self.aborted, backoff)
        return downloader.fetch(sha256, size_bytes)[1]


@contextmanager
def pulling(identity: Identity, state: Path) -> Iterator[Puller]:
    """A device at its broker, with what it has in its ``state``; nobody else may be there under its name."""
    events: queue.SimpleQueue[LinkEvent | None] = queue.SimpleQueue()
    connected = threading.Event()
    topics = Topics(identity.topic_root)
    paths = StatePaths(state)
    now = partial(judge_time, paths.floor, time.time_ns() // 1_000_000)
    link = Connection(
        identity.device, topics, identity.broker, events.put, lambda: uuid4().hex,
        tls=lambda: broker_context(paths.identity, now),
    )  # fmt: skip

    def send(fetch: Fetch) -> None:
        link.publish(Channel.FETCH, encode(fetch))

    questions = Questions(send)

    def hear() -> None:
        while (event := events.get()) is not None:
            if isinstance(event, Connected):
                connected.set()
            elif isinstance(event, MessageReceived) and event.channel is Channel.CHUNK:
                questions.answer(*decode_chunk(event.payload))

    thread = threading.Thread(target=hear)
    thread.start()
    try:
        link.connect()
        assert connected.wait(CONNECT_WITHIN_S), "the broker does not answer"
        yield Puller(identity, link, questions)
    finally:
        link.close()
        events.put(None)
        thread.join()
