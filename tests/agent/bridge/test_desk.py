"""The desk of the bridge: what is dropped, what is acknowledged, and in which order."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet_agent.bridge.desk import Desk, Entry, Message, Publication, Stage

ANSWER = Publication("out", b"{}")


def message(topic: str = "in") -> Message:
    return Message(topic, b"1", 0, 0.0)


def arrive(desk: Desk, *numbers: int) -> None:
    for number in numbers:
        desk.arrive(message(), number, again=False)


def finish(desk: Desk) -> Entry:
    entry = desk.take_job()
    assert entry is not None
    desk.answer(entry, ANSWER, failed=False)
    desk.confirm(entry)
    return entry


def test_a_message_is_acknowledged_when_its_answer_is_confirmed() -> None:
    desk = Desk(4)
    arrive(desk, 7)
    entry = desk.take_job()
    assert entry is not None
    assert list(desk.take_acknowledged()) == []
    desk.answer(entry, ANSWER, failed=False)
    assert list(desk.take_acknowledged()) == []
    desk.confirm(entry)
    assert list(desk.take_acknowledged()) == [7]
    assert list(desk.take_acknowledged()) == []


def test_the_oldest_waiting_are_dropped_and_acknowledged_in_the_order_of_arrival() -> None:
    desk = Desk(2)
    arrive(desk, 1)
    working = desk.take_job()
    assert working is not None
    arrive(desk, 2, 3, 4, 5)
    assert (desk.counts.dropped, desk.held) == (2, 3)
    assert list(desk.take_acknowledged()) == [], "1 is older, and still worked on"
    desk.answer(working, ANSWER, failed=True)
    desk.confirm(working)
    assert list(desk.take_acknowledged()) == [1, 2, 3]
    assert [finish(desk).number for _ in range(2)] == [4, 5]
    assert desk.take_job() is None


def test_what_is_not_to_be_acknowledged_is_gone_once_it_is_dropped() -> None:
    desk = Desk(2)
    arrive(desk, 1)
    working = desk.take_job()
    assert working is not None
    for _ in range(100):
        desk.arrive(message(), None, again=False)
    assert (desk.counts.dropped, desk.held, len(desk._entries)) == (98, 3, 3)
    desk.put_back(working)
    assert desk.counts.dropped == 99
    assert list(desk.take_acknowledged()) == [1]
    for _ in range(2):
        finish(desk)
    assert list(desk.take_acknowledged()) == []
    assert not desk._entries


def test_one_is_worked_on_at_a_time_and_not_when_answers_pile_up() -> None:
    desk = Desk(2)
    arrive(desk, 1, 2)
    first = desk.take_job()
    assert first is not None
    assert desk.take_job() is None
    desk.answer(first, ANSWER, failed=False)
    second = desk.take_job()
    assert second is not None
    desk.answer(second, ANSWER, failed=False)
    arrive(desk, 3)
    assert desk.take_job() is None, "two answers are not confirmed"
    desk.confirm(first)
    assert desk.take_job() is not None


def test_what_the_worker_did_not_take_is_next_again_and_the_first_to_be_dropped() -> None:
    desk = Desk(2)
    arrive(desk, 1, 2)
    first = desk.take_job()
    assert first is not None
    arrive(desk, 3)
    desk.put_back(first)
    assert first.stage is Stage.FINISHED
    assert desk.counts.dropped == 1
    assert finish(desk).number == 2


def test_after_a_reconnect_answers_are_published_again_and_numbers_hold_only_in_a_kept_session() -> None:
    desk = Desk(4)
    arrive(desk, 1, 2, 3)
    first = desk.take_job()
    assert first is not None
    desk.answer(first, ANSWER, failed=False)
    assert desk.reconnect(session_kept=True) == [first]
    desk.arrive(message(), 2, again=True)
    assert desk.counts.received == 3, "it is here already"
    desk.arrive(message("other"), 2, again=True)
    desk.arrive(message(), 9, again=True)
    assert desk.counts.received == 5, "those are not"
    assert desk.reconnect(session_kept=False) == [first]
    desk.confirm(first)
    assert [finish(desk).number for _ in range(4)] == [None] * 4
    assert list(desk.take_acknowledged()) == []


def test_what_was_acknowledged_in_vain_is_acknowledged_again_and_not_answered_again() -> None:
    desk = Desk(4)
    arrive(desk, 5)
    finish(desk)
    assert list(desk.take_acknowledged()) == [5]
    desk.reconnect(session_kept=True)
    assert desk.arrive(message(), 5, again=True)
    assert not desk.arrive(message(), 5, again=False), "the number is used for another message"
    assert not desk.arrive(message("other"), 5, again=True)
    assert desk.counts.received == 3
    desk = Desk(4)
    for number in range(1, 400):
        arrive(desk, number)
        finish(desk)
        assert list(desk.take_acknowledged()) == [number]
    assert not desk.arrive(message(), 1, again=True), "it remembers a while only"
    desk.reconnect(session_kept=False)
    assert not desk.arrive(message(), 399, again=True)


@dataclass
class Sent:
    """The broker's side: what it has sent and not seen acknowledged; of ``unheard`` the bridge has sent
    the acknowledgement, and the connection broke."""

    unacknowledged: list[int] = field(default_factory=list)
    unheard: list[int] = field(default_factory=list)
    next_number: int = 1


class DeskMachine(RuleBasedStateMachine):
    """Against a broker that keeps the session: every message is answered or counted as dropped, and
    acknowledged once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk, self.sent = Desk(3), Sent()
        self.working: Entry | None = None
        self.answered: list[Entry] = []

    @rule(count=st.integers(1, 5))
    def arrive(self, count: int) -> None:
        for _ in range(count):
            self.desk.arrive(message(), self.sent.next_number, again=False)
            self.sent.unacknowledged.append(self.sent.next_number)
            self.sent.next_number += 1

    @rule()
    def take(self) -> None:
        entry = self.desk.take_job()
        if entry is not None:
            assert self.working is None
            self.working = entry

    @precondition(lambda self: self.working is not None)
    @rule(away=st.booleans(), failed=st.booleans())
    def work(self, away: bool, failed: bool) -> None:
        entry, self.working = self.working, None
        assert entry is not None
        if away:
            self.desk.put_back(entry)
        else:
            self.desk.answer(entry, ANSWER, failed=failed)
            self.answered.append(entry)

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.answered) - 1))
        self.desk.confirm(self.answered.pop(place))

    @rule(heard=st.booleans())
    def acknowledge(self, heard: bool) -> None:
        taken = list(self.desk.take_acknowledged())
        assert taken == self.sent.unacknowledged[: len(taken)]
        del self.sent.unacknowledged[: len(taken)]
        if not heard:
            self.sent.unheard += taken

    @rule()
    def reconnect(self) -> None:
        assert self.desk.reconnect(session_kept=True) == sorted(
            self.answered, key=lambda entry: entry.number or 0
        )
        for number in self.sent.unheard:
            assert self.desk.arrive(message(), number, again=True), "it was answered, and is not again"
        self.sent.unheard.clear()
        for number in self.sent.unacknowledged:
            assert not self.desk.arrive(message(), number, again=True)

    @invariant()
    def everything_is_accounted_for(self) -> None:
        counts = self.desk.counts
        assert counts.received == self.sent.next_number - 1
        assert counts.received == counts.answered + counts.failed + counts.dropped + self.desk.held
        assert self.desk.held <= 3 + (self.working is not None)

    def teardown(self) -> None:
        if self.working is not None:
            self.work(away=False, failed=False)
        while True:
            for entry in self.answered:
                self.desk.confirm(entry)
            self.answered.clear()
            self.take()
            if self.working is None:
                break
            self.work(away=False, failed=False)
        self.acknowledge(heard=True)
        assert self.sent.unacknowledged == []


TestDesk = DeskMachine.TestCase
TestDesk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
