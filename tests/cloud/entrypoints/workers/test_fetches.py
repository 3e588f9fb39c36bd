"""Who answers devices: fair, bounded, and never in the way of anything else; over a real broker too."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.mqtt.inbox import Inbox, Incoming
from fleet_cloud.domain.rollout import Assignment
from fleet_cloud.entrypoints.workers.fetches import (
    DEVICE_WAITING_MAX,
    IN_FLIGHT_MAX,
    Fetches,
    FetchQueue,
)
from fleet_cloud.entrypoints.workers.ingest import Ingest
from fleet_cloud.entrypoints.workers.loops import Loop
from fleet_cloud.services.parts import BlobParts
from fleet_shared.limits import PART_BYTES
from fleet_shared.manifest import Role
from fleet_shared.messages.fetch import Chunk, Fetch, Part, decode_chunk
from fleet_shared.messages.telemetry import Sample, Source
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Channel, Topics
from fleet_shared.wire import encode
from tests.kit.databases import sqlite_in
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.parts import PI, Parts, batch
from tests.kit.people import ADMIN
from tests.kit.waiting import wait_for

GREEDY = DeviceId("greedy")


def question(number: int) -> Fetch:
    return Fetch(request=f"r{number}")


# -- the line


def test_devices_take_turns_however_much_one_of_them_asks() -> None:
    waiting = FetchQueue()
    for number in range(6):
        waiting.put(GREEDY, question(number))
    waiting.put(PI, question(100))
    order = [waiting.take(1) for _ in range(4)]
    assert [(device, fetch.request) for device, fetch in filter(None, order)] == [
        (GREEDY, "r0"), (PI, "r100"), (GREEDY, "r1"), (GREEDY, "r2"),
    ]  # fmt: skip


def test_of_a_device_that_asks_too_much_the_newest_questions_count() -> None:
    waiting = FetchQueue()
    for number in range(DEVICE_WAITING_MAX + 5):
        waiting.put(GREEDY, question(number))
    found = [waiting.take(0.01) for _ in range(DEVICE_WAITING_MAX + 1)]
    requests = [fetch.request for _, fetch in filter(None, found)]
    assert requests == [f"r{number}" for number in range(5, DEVICE_WAITING_MAX + 5)]
    assert found[-1] is None


def test_a_question_that_waits_already_is_answered_once() -> None:
    waiting = FetchQueue()
    for _ in range(3):
        waiting.put(PI, question(1))
    assert [waiting.take(0.01) is None for _ in range(2)] == [False, True]


def test_what_does_not_fit_is_dropped_and_later_there_is_room_again() -> None:
    waiting = FetchQueue(waiting_max=3)
    for number in range(5):
        waiting.put(DeviceId(f"pi-{number}"), question(number))
    found = [waiting.take(0.01) for _ in range(4)]
    assert [fetch.request for _, fetch in filter(None, found)] == ["r0", "r1", "r2"]
    waiting.put(PI, question(9))
    assert waiting.take(1) == (PI, question(9))


# -- one worker


@dataclass
class OnItsWay:
    """A message that the broker takes when a test says so."""

    taken: threading.Event = field(default_factory=threading.Event)

    def is_published(self) -> bool:
        return self.taken.is_set()

    def wait_for_publish(self, timeout: float | None = None) -> None:
        self.taken.wait(0.01 if timeout else timeout)


@dataclass
class Bench:
    parts: Parts
    assignment: Assignment
    sha256: Any
    content: bytes
    waiting: FetchQueue = field(default_factory=FetchQueue)

    def ask(self, offset: int, length: int = 1000) -> Fetch:
        return Fetch(
            request=f"r{offset}", assignment=self.assignment.id, sha256=self.sha256,
            part=Part(offset=offset, length=length),
        )  # fmt: skip


@pytest.fixture
def bench(parts: Parts) -> Bench:
    parts.add_device()
    content = bytes(i * i % 253 for i in range(900_000))
    version = parts.registry.register("m", parts.draft(content), ADMIN).version
    sha256 = version.variants[0].manifest.blobs[Role.MODEL].sha256
    return Bench(parts, parts.push(), sha256, content)


@pytest.fixture
def url(tmp_path: Any) -> str:
    """What is tested here does not know its database."""
    return sqlite_in(tmp_path)


def test_no_more_parts_are_handed_over_than_the_broker_has_taken(bench: Bench) -> None:
    on_their_way: list[OnItsWay] = []

    def send(_topic: str, _payload: bytes) -> OnItsWay:
        on_their_way.append(OnItsWay())
        return on_their_way[-1]

    worker = Fetches(bench.waiting, Topics(), bench.parts.fetching, send)
    for turn in range(IN_FLIGHT_MAX + 5):
        bench.waiting.put(PI, bench.ask(turn))
        worker.turn()
    assert len(on_their_way) == IN_FLIGHT_MAX
    on_their_way[0].taken.set()
    worker.turn()
    worker.turn()
    assert len(on_their_way) == IN_FLIGHT_MAX + 1
    for one in on_their_way:
        one.taken.set()
    worker.turn()
    assert len(worker._in_flight) <= 1


def test_what_cannot_be_answered_costs_no_room(bench: Bench) -> None:
    sent: list[Chunk] = []

    def send(_topic: str, payload: bytes) -> OnItsWay:
        sent.append(decode_chunk(payload)[0])
        return OnItsWay()

    worker = Fetches(bench.waiting, Topics(), bench.parts.fetching, send)
    for number in range(2 * IN_FLIGHT_MAX):
        bench.waiting.put(PI, replace_assignment(bench.ask(number)))
        worker.turn()
    assert [chunk.failure.code for chunk in sent if chunk.failure] == ["fetch.forbidden"] * 2 * IN_FLIGHT_MAX


def test_a_store_that_hangs_holds_up_one_worker_and_nothing_else(bench: Bench) -> None:
    """The other one answers, and so does the ingest, which only hands questions on."""
    asked, released = threading.Event(), threading.Event()
    answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
    fetching, store = bench.parts.fetching, bench.parts.blobs.store

    class Hanging:
        def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            asked.set()
            released.wait(30)
            return store.read(sha256, start, end)

        put, info, presigned_url = store.put, store.info, store.presigned_url

    hanging = replace(fetching, parts=BlobParts(Hanging()))

    def send(topic: str, payload: bytes) -> None:
        answers.put((topic, payload))

    workers = [Fetches(bench.waiting, Topics(), hanging, send) for _ in range(2)]
    loops = [Loop("fetches", worker.turn) for worker in workers]
    inbox = Inbox(100)
    ingest = Ingest(inbox, Topics(), bench.parts.observe, bench.waiting.put, send, lambda: None)
    for loop in loops:
        loop.start()
    try:
        inbox.put(Incoming(topic(PI, Channel.FETCH), encode(bench.ask(0))))
        ingest.turn()
        assert asked.wait(20)
        row = Sample(seq=1, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": 1.0})
        inbox.put(Incoming(topic(PI, Channel.TELEMETRY), encode(batch(row))))
        inbox.put(Incoming(topic(PI, Channel.FETCH), encode(Fetch(request="csr", csr_pem="csr"))))
        ingest.turn()
        ingest.turn()
        heard = {answers.get(timeout=20)[0] for _ in range(2)}
        assert heard == {topic(PI, Channel.ACK), topic(PI, Channel.CHUNK)}
        released.set()
        assert decode_chunk(answers.get(timeout=20)[1])[1] == bench.content[:1000]
    finally:
        released.set()
        for loop in loops:
            loop.stop()


def replace_assignment(fetch: Fetch) -> Fetch:
    return Fetch(request=fetch.request, assignment=type(fetch.assignment)("another"), sha256=fetch.sha256)


# -- over a broker


@contextmanager
def controller(bench: Bench, port: int) -> Iterator[Gateway]:
    """The part of a controller that answers, as it is wired."""
    topics = Topics()
    gateway = Gateway(BrokerEndpoint("127.0.0.1", port), topics, client_id="ctl-1")
    gateway.start(10)

    def send(topic: str, payload: bytes) -> Any:
        return gateway.send(topic, payload, retain=False)

    ingest = Ingest(
        gateway.incoming, topics, bench.parts.observe, ask=bench.waiting.put,
        answer=lambda _topic, _payload: None, changed=lambda: None,
    )  # fmt: skip
    workers = [Fetches(bench.waiting, topics, bench.parts.fetching, send) for _ in range(2)]
    loops = [Loop("ingest", ingest.turn), *(Loop("fetches", one.turn) for one in workers)]
    for loop in loops:
        loop.start()
    try:
        yield gateway
    finally:
        for loop in loops:
            loop.stop()
        gateway.close()


def topic(device: DeviceId, channel: Channel) -> str:
    return Topics().device(device, channel)


def test_a_greedy_device_holds_up_nobody_and_fills_no_memory(bench: Bench, mosquitto: Mosquitto) -> None:
    """It asks for a thousand large parts at once; another one gets its blob meanwhile."""
    bench.parts.add_device(GREEDY)
    status = bench.parts.start()
    bench.parts.tick.run()
    assignments = bench.parts.rollouts.get(status.rollout.id).assignments
    own = {assignment.device: assignment.id for assignment in assignments}
    with controller(bench, mosquitto.port) as gateway:
        client = gateway._client
        assert client is not None
        with (
            Listener(mosquitto.port, topic(PI, Channel.CHUNK)) as device,
            Listener(mosquitto.port, topic(GREEDY, Channel.CHUNK)) as greedy,
        ):
            for number in range(1000):
                fetch = msgspec.structs.replace(bench.ask(number, PART_BYTES), assignment=own[GREEDY])
                greedy._client.publish(topic(GREEDY, Channel.FETCH), encode(fetch), qos=1)
            got, most, begin_s = b"", 0, time.monotonic()
            while len(got) < len(bench.content):
                fetch = msgspec.structs.replace(bench.ask(len(got), PART_BYTES), assignment=own[PI])
                device.publish(topic(PI, Channel.FETCH), encode(fetch))
                _, payload = device.get()
                chunk, content = decode_chunk(payload)
                assert (chunk.offset, chunk.failure) == (len(got), None)
                got += content or b""
                most = max(most, len(client._out_messages))
            assert got == bench.content
            assert most <= 2 * IN_FLIGHT_MAX + 2, "the client's own queue grows"
            assert time.monotonic() - begin_s < 30
            assert decode_chunk(greedy.get()[1])[1], "it got its parts as well, one for each of the other's"


def test_a_device_that_is_revoked_in_the_middle_gets_no_further_part(
    bench: Bench, mosquitto: Mosquitto
) -> None:
    with (
        controller(bench, mosquitto.port),
        Listener(mosquitto.port, topic(PI, Channel.CHUNK)) as device,
    ):
        device.publish(topic(PI, Channel.FETCH), encode(bench.ask(0)))
        assert decode_chunk(device.get()[1])[1] == bench.content[:1000]
        with bench.parts.uow.begin() as transaction:
            transaction.devices.put(replace(bench.parts.device(), revoked_ms=1))
        device.publish(topic(PI, Channel.FETCH), encode(bench.ask(1000)))
        chunk, content = decode_chunk(device.get()[1])
        assert (chunk.failure and chunk.failure.code, content) == ("device.revoked", None)


def test_after_a_broker_was_away_answers_go_on(bench: Bench, mosquitto: Mosquitto) -> None:
    with controller(bench, mosquitto.port) as gateway:
        mosquitto.kill()
        wait_for("the gateway to notice", lambda: gateway.status != "connected")
        for number in range(3 * IN_FLIGHT_MAX):
            bench.waiting.put(PI, bench.ask(number, PART_BYTES))
        mosquitto.start()
        wait_for("the gateway to come back", lambda: gateway.status == "connected")
        with Listener(mosquitto.port, topic(PI, Channel.CHUNK)) as device:
            device.publish(topic(PI, Channel.FETCH), encode(bench.ask(5)))
            payload = device.wait(lambda _topic, raw: decode_chunk(raw)[0].request == "r5")
            assert decode_chunk(payload)[1] == bench.content[5:1005]
