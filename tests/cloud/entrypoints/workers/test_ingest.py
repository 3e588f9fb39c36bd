"""From messages to use cases: nothing that is said once is lost, nothing that is wrong holds up the rest."""

from dataclasses import dataclass, field

import msgspec
import pytest

from fleet_cloud.adapters.mqtt.inbox import Inbox
from fleet_cloud.adapters.mqtt.inbox import Incoming as Said
from fleet_cloud.entrypoints.workers.ingest import Ingest
from fleet_cloud.entrypoints.workers.publish import Publisher
from fleet_cloud.errors import Unavailable
from fleet_cloud.services.ports import OutgoingMessage
from fleet_shared.messages.fetch import Fetch
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.telemetry import Ack, Sample, Source, TelemetryBatch
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from fleet_shared.wire import decode, encode
from tests.kit.parts import PI, Parts, batch
from tests.kit.people import ADMIN

PREFIX = "fleet/v1/devices/pi-1"


@dataclass
class Bench:
    """An ingest whose messages, answers and wake-ups a test can see."""

    parts: Parts
    messages: Inbox = field(default_factory=lambda: Inbox(1000))
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    asked: list[tuple[DeviceId, Fetch]] = field(default_factory=list)
    woken: int = 0

    def __post_init__(self) -> None:
        self.ingest = Ingest(
            self.messages, Topics(), self.parts.observe,
            ask=lambda device, fetch: self.asked.append((device, fetch)),
            answer=lambda topic, payload: self.answers.append((topic, payload)),
            changed=self.wake,
        )  # fmt: skip

    def wake(self) -> None:
        self.woken += 1

    def say(self, *said: Said) -> list[float]:
        for message in said:
            self.messages.put(message)
        return [self.ingest.turn() for _ in said]


@pytest.fixture
def bench(parts: Parts) -> Bench:
    parts.add_device()
    return Bench(parts)


def telemetry(*seqs: int) -> Said:
    rows = [Sample(seq=s, boot_id="b", boot_ms=1, source=Source.HOST, values={"n": 1.0}) for s in seqs]
    return Said(f"{PREFIX}/telemetry", encode(batch(*rows)))


def test_telemetry_is_acknowledged_and_wakes_nobody(bench: Bench) -> None:
    assert bench.say(telemetry(1, 2)) == [0.0]
    ((topic, payload),) = bench.answers
    assert topic == f"{PREFIX}/ack"
    assert decode(Ack, payload) == Ack(stream="s", upto=2)
    assert bench.woken == 0


def test_what_is_said_once_is_held_while_the_database_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [True, True, False]

    @dataclass
    class Flickering:
        def presence(self, name: DeviceId, presence: Presence, *, retained: bool) -> None:
            if away.pop(0):
                raise Unavailable("the database is away", code="database.unreachable")
            bench.parts.observe.presence(name, presence, retained=retained)

    monkeypatch.setattr(bench.ingest, "observe", Flickering())
    bench.messages.put(Said(f"{PREFIX}/presence", encode(Presence(session="s", online=True))))
    waits = [bench.ingest.turn() for _ in range(3)]
    assert waits[0] > 0
    assert waits[1] > 0
    assert waits[2] == 0.0
    assert bench.parts.device().online


def test_what_is_wrong_is_dropped_and_the_next_message_is_handled(bench: Bench) -> None:
    numbers = b'"start":1,"oldest":1,"first":1,"last":1,"rows":[1]'
    wrong = [
        Said("another/topic", b"x"),
        Said(f"{PREFIX}/presence", b"{"),
        Said(f"{PREFIX}/presence", b'{"session":"' + b"x" * 65 + b'","online":true}'),
        Said(f"{PREFIX}/telemetry", b"\xff"),
        Said(f"{PREFIX}/telemetry", b'{"stream":"s\\u0000","head":1,%b}' % numbers),
        Said(f"{PREFIX}/telemetry", b'{"stream":"s","head":18446744073709551616,%b}' % numbers),
        Said(f"{PREFIX}/fetch", b'{"request":"\\u0000","assignment":"a","sha256":"b"}'),
        Said("fleet/v1/devices/nobody/telemetry", telemetry(1).payload),
    ]
    assert bench.say(*wrong, telemetry(1)) == [0.0] * (len(wrong) + 1)
    assert [decode(Ack, payload).upto for _, payload in bench.answers] == [1]


@pytest.mark.parametrize(
    "row",
    [
        b'{"kind":"event","seq":1,"boot_id":"b","boot_ms":1,"name":"a\\u0000b"}',
        b'{"kind":"event","seq":1,"boot_id":"b","boot_ms":1,"name":"a","assignment":"\\u0000"}',
        b'{"kind":"sample","seq":1,"boot_id":"b","boot_ms":1,"wall_ms":9223372036854775808,"source":"host","values":{}}',
        b'{"kind":"sample","seq":1,"boot_id":"b","boot_ms":1,"source":"host","values":{},"classes":{"a":1e400}}',
        b'{"kind":"tombstone","seq":1,"last":0,"boot_id":"b","boot_ms":1}',
        b"[[[[]]]]",
    ],
)
def test_no_row_can_block_its_stream(bench: Bench, row: bytes) -> None:
    poison = TelemetryBatch(stream="s", start=1, oldest=1, head=1, first=1, last=1, rows=(msgspec.Raw(row),))
    bench.say(Said(f"{PREFIX}/telemetry", encode(poison)), telemetry(2))
    assert [decode(Ack, payload).upto for _, payload in bench.answers] == [1, 2]
    with bench.parts.uow.read() as transaction:
        assert transaction.telemetry.totals(PI).rejected == 1


def test_a_new_connection_puts_unmet_states_on_their_way(bench: Bench) -> None:
    bench.parts.registry.register("m", bench.parts.draft(b"one"), ADMIN)
    bench.parts.push()
    with bench.parts.uow.begin() as transaction:
        transaction.outbox.remove([m.id for m in transaction.outbox.pending(9) if m.id is not None])
    bench.say(Said(None, b""))
    assert len(bench.parts.outgoing()) == 1
    assert bench.woken == 1


def test_a_message_leaves_the_outbox_only_when_the_broker_has_it(bench: Bench) -> None:
    for number in range(3):
        with bench.parts.uow.begin() as transaction:
            transaction.outbox.add(OutgoingMessage(f"t/{number}", b"x", retain=True))
    assert (
        Publisher(bench.parts.uow, lambda messages: [m.topic != "t/1" for m in messages], lambda: None).turn()
        > 0
    )
    assert [message.topic for message in bench.parts.outgoing()] == ["t/1"]
