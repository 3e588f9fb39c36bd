"""What waits for a client is bounded, and goes out in its order."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from fleet_cloud.adapters.broker import outbox
from fleet_cloud.adapters.broker.outbox import BUSY_MESSAGES, WINDOW_MESSAGES, Bounds, Message, Outbox
from fleet_cloud.adapters.broker.subscriptions import Subscriptions

SMALL = Bounds(messages=3, bytes=100)


def message(number: int, qos: int = 1, size: int = 1) -> Message:
    return Message(str(number), b"x" * size, qos, retain=False)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def test_a_full_outbox_takes_nothing_but_what_was_kept() -> None:
    async def act() -> None:
        box = Outbox(SMALL)
        assert [box.put(message(number)) for number in range(4)] == [True, True, True, False]
        assert box.put(message(9), kept=True)
        assert [(await box.get())[0].topic for _ in range(4)] == ["0", "1", "2", "9"]
        assert box.put(message(1, size=100))
        assert not box.put(message(2))
        await box.get()
        assert box.put(message(2))

    run(act)


def test_only_so_many_messages_are_under_way_and_an_acknowledgement_lets_the_next_out() -> None:
    async def act() -> None:
        box = Outbox(outbox.DEVICE)
        for number in range(WINDOW_MESSAGES + 2):
            box.put(message(number))
        numbers = [(await box.get())[1] for _ in range(WINDOW_MESSAGES)]
        assert numbers == list(range(1, WINDOW_MESSAGES + 1))
        waiting = asyncio.create_task(box.get())
        await asyncio.sleep(0)
        box.acknowledge(65_000)
        await asyncio.sleep(0)
        assert not waiting.done()
        box.acknowledge(5)
        assert (await waiting)[0].topic == str(WINDOW_MESSAGES)

    run(act)


def test_numbers_that_are_under_way_are_not_given_again() -> None:
    async def act() -> None:
        box = Outbox(outbox.DEVICE)
        box.put(message(0))
        assert (await box.get())[1] == 1
        seen = set()
        for _ in range(outbox.PACKET_ID_MAX - 1):
            box.put(message(0))
            number = (await box.get())[1] or 0
            seen.add(number)
            box.acknowledge(number)
        assert seen == set(range(2, outbox.PACKET_ID_MAX + 1))
        box.put(message(0))
        assert (await box.get())[1] == 2

    run(act)


def test_a_client_that_acknowledges_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ACK_TIMEOUT_S", 0.01)

    async def act() -> None:
        box = Outbox(outbox.DEVICE)
        for number in range(WINDOW_MESSAGES + 1):
            box.put(message(number))
        for _ in range(WINDOW_MESSAGES):
            await box.get()
        with pytest.raises(TimeoutError):
            await box.get()

    run(act)


def test_who_is_busy_has_room_again_at_half_or_when_it_is_gone() -> None:
    async def act() -> None:
        box = Outbox(outbox.CONTROLLER)
        for number in range(BUSY_MESSAGES):
            box.put(message(number, qos=0))
        await box.wait_until_roomy()
        box.put(message(0, qos=0))
        waiting = asyncio.create_task(box.wait_until_roomy())
        for _ in range(BUSY_MESSAGES // 2):
            await box.get()
        await asyncio.sleep(0)
        assert not waiting.done()
        await box.get()
        await waiting
        for _ in range(BUSY_MESSAGES):
            box.put(message(0, qos=0))
        waiting = asyncio.create_task(box.wait_until_roomy())
        await asyncio.sleep(0)
        assert not waiting.done()
        box.close()
        await waiting

    run(act)


def test_subscriptions_belong_to_a_connection_and_overlapping_ones_deliver_once() -> None:
    table: Subscriptions[str] = Subscriptions()
    table.add("a", "x/+", 0)
    table.add("a", "x/y", 1)
    table.add("b", "x/#", 1)
    assert table.find("x/y") == {"a": 1, "b": 1}
    assert table.count("a") == 2
    table.remove("a", "x/y")
    table.remove("a", "never")
    assert table.find("x/y") == {"a": 0, "b": 1}
    table.remove_all("a")
    table.remove_all("a")
    assert table.find("x/y") == {"b": 1}
    table.remove_all("b")
    assert table.find("x/y") == {}
    assert not table._plain
    assert not table._wild
    assert not table._filters
