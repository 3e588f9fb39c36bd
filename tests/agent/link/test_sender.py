"""Which batch goes next, over the real outbox: one in flight, resent in its time, streams in turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.errors import OutboxError
from fleet_agent.link.outbox import Outbox
from fleet_agent.link.sender import RESEND_AFTER_S, Rows, Sender
from fleet_shared.messages.telemetry import Ack, Rejection, TelemetryBatch
from tests.agent.link.test_outbox import sample


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    old = Outbox(tmp_path / "o.db", "old")
    old.append(sample(1), sample(2))
    old.close()
    outbox = Outbox(tmp_path / "o.db", "new")
    outbox.append(sample(3))
    yield outbox
    outbox.close()


def make_sender(rows: Rows, jitter: float = 1.0) -> Sender:
    return Sender(rows, lambda: jitter)


def describe(batch: TelemetryBatch | None) -> tuple[str, int, int] | None:
    return None if batch is None else (batch.stream, batch.first, batch.last)


def test_one_batch_is_in_flight_at_a_time(box: Outbox) -> None:
    sender = make_sender(box)
    assert describe(sender.load_next(100.0)) == ("old", 1, 2)
    box.append(sample(4))
    assert sender.load_next(100.0) is None
    assert sender.load_next(109.9) is None


@pytest.mark.parametrize("jitter", [0.8, 1.0, 1.2])
def test_without_an_answer_it_is_sent_again_in_its_time(box: Outbox, jitter: float) -> None:
    assert RESEND_AFTER_S == 10.0
    sender = make_sender(box, jitter)
    first = sender.load_next(100.0)
    assert sender.load_next(100.0 + 10 * jitter - 0.01) is None
    again = sender.load_next(100.0 + 10 * jitter)
    assert again == first is not None
    assert sender.load_next(100.0 + 20 * jitter - 0.01) is None, "the second try has its own time"


def test_an_ack_lets_the_next_batch_go_at_once(box: Outbox) -> None:
    sender = make_sender(box)
    sender.load_next(100.0)
    assert sender.apply_ack(Ack(stream="old", upto=2)) == 2
    assert describe(sender.load_next(100.0)) == ("new", 3, 3)
    assert sender.load_next(100.0) is None
    assert sender.apply_ack(Ack(stream="new", upto=3)) == 1
    assert sender.load_next(100.0) is None
    box.append(sample(4))
    assert describe(sender.load_next(100.0)) == ("new", 4, 4), "nothing was in flight"


def test_an_ack_that_covers_a_part_lets_the_rest_go(box: Outbox) -> None:
    sender = make_sender(box)
    sender.load_next(100.0)
    sender.apply_ack(Ack(stream="old", upto=1))
    assert describe(sender.load_next(100.0)) == ("old", 2, 2)


def test_an_ack_of_another_stream_frees_nothing(box: Outbox) -> None:
    sender = make_sender(box)
    sender.load_next(100.0)
    assert sender.apply_ack(Ack(stream="new", upto=3)) == 1
    assert sender.load_next(101.0) is None
    assert sender.apply_ack(Ack(stream="nobody's", upto=3)) == 0


def test_a_new_connection_forgets_what_was_in_flight(box: Outbox) -> None:
    sender = make_sender(box)
    first = sender.load_next(100.0)
    sender.reset()
    assert sender.load_next(100.0) == first


def test_what_the_controller_refused_is_said_in_the_log(
    box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = (Rejection(seq=2, code="telemetry.row.invalid"),)
    assert make_sender(box).apply_ack(Ack(stream="old", upto=2, rejected=rejected)) == 2
    assert "row 2: telemetry.row.invalid" in caplog.text


class Full:
    """An outbox whose disk takes no change, around a real one."""

    def __init__(self, rows: Rows) -> None:
        self.streams, self.load_batch = rows.streams, rows.load_batch

    def apply_ack(self, ack: Ack) -> int:
        raise OutboxError(f"the disk is full: {ack}", code="outbox.full")


def test_an_ack_that_cannot_be_written_down_makes_no_flood(box: Outbox) -> None:
    sender = make_sender(Full(box))
    first = sender.load_next(100.0)
    with pytest.raises(OutboxError):
        sender.apply_ack(Ack(stream="old", upto=2))
    assert sender.load_next(101.0) is None
    assert sender.load_next(110.0) == first
