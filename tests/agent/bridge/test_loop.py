"""The loop of the bridge: the worker's absences, poisoned messages, new versions, lost brokers."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fleet_agent.bridge.loop import Bridge, Event
from fleet_agent.bridge.payloads import ModelInfo, TensorInfo
from fleet_agent.bridge.settings import BridgeSettings, Route
from fleet_agent.bridge.worker import RequestRefused, WorkerAway
from fleet_agent.link.backoff import Backoff
from tests.kit.bridge import FakeBroker, ScriptedInference
from tests.kit.waiting import wait_for

SETTINGS = BridgeSettings(
    route=(Route(input="in/+", output="out/{topic}", errors="err", model="m"),),
    queue_messages=3,
    status_interval_s=0.1,
    payload_bytes_max=64,
)


class Running:
    def __init__(self) -> None:
        inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.broker, self.inference = FakeBroker(inbox), ScriptedInference()
        quick = Backoff(0.01, 0.02, lambda: 0.0)
        self.bridge = Bridge(SETTINGS, self.broker, self.inference, inbox, reconnect=quick, retry=quick)
        self.thread = threading.Thread(target=self.bridge.run)

    def find(self, topic: str) -> list[dict[str, Any]]:
        return [document for found, document in self.broker.published if found == topic]


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    made.thread.start()
    wait_for("the connection", lambda: made.broker.statuses)
    yield made
    made.bridge.stop()
    made.thread.join(30)
    assert made.broker.closed


def test_a_message_is_answered_confirmed_and_acknowledged(running: Running) -> None:
    running.broker.deliver(5, b'{"id": "a", "data": [1, 2]}')
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [5])
    (result,) = running.find("out/in/a")
    del result["latency_us"], result["inference_us"]
    assert result == {
        "topic": "in/a", "model": "m", "version": "1.0.0", "id": "a", "label": "b", "score": 0.75,
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}],
    }  # fmt: skip
    expected = {
        "online": True,
        "received": 1,
        "answered": 1,
        "failed": 0,
        "dropped": 0,
        "held": 0,
        "worker": True,
        "refused": 0,
    }
    wait_for("the status", lambda: running.broker.statuses[-1] == expected)


def test_nothing_is_acknowledged_before_the_broker_has_the_answer(running: Running) -> None:
    running.broker.deaf = True
    running.broker.deliver(1, b"[1, 2]")
    wait_for("the answer", lambda: len(running.find("out/in/a")) == 1)
    assert running.broker.acknowledged == []
    running.broker.deaf, running.broker.session_kept = False, True
    running.broker.break_off()
    wait_for("the answer again", lambda: len(running.find("out/in/a")) == 2)
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1])
    assert len(running.inference.asked) == 1, "it was inferred once"


def test_a_worker_that_is_away_is_waited_for(running: Running) -> None:
    def away(_: dict[str, Any]) -> None:
        if len(running.inference.asked) < 8:
            raise WorkerAway("nobody there")

    running.inference.step = away
    running.broker.deliver(1, b"[1, 2]")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1])
    assert len(running.inference.asked) == 8
    assert running.find("err") == []


def test_a_message_that_breaks_the_worker_twice_is_given_up_and_the_next_is_served(running: Running) -> None:
    def break_off(document: dict[str, Any]) -> None:
        if document["inputs"][0]["data"] == [6, 6]:
            raise WorkerAway("the connection broke", broken=True)

    running.inference.step = break_off
    running.broker.deliver(1, b'{"id": "poison", "data": [6, 6]}')
    running.broker.deliver(2, b"[1, 2]")
    wait_for("both acknowledgements", lambda: running.broker.acknowledged == [1, 2])
    (trouble,) = running.find("err")
    assert (trouble["code"], trouble["id"], trouble["topic"]) == ("bridge.worker.away", "poison", "in/a")
    assert len(running.find("out/in/a")) == 1
    assert len(running.inference.asked) == 3


def test_a_new_version_with_another_input_is_read_anew(running: Running) -> None:
    running.broker.deliver(1, b"[1, 2]")
    wait_for("the first answer", lambda: running.broker.acknowledged == [1])

    def refuse(document: dict[str, Any]) -> None:
        if document["inputs"][0]["name"] != "renamed":
            raise RequestRefused("no such input")

    running.inference.info = ModelInfo(["2.0.0"], [TensorInfo("renamed", "FP32", [-1, 2])], [])
    running.inference.step = refuse
    running.broker.deliver(2, b"[1, 2]")
    wait_for("the second answer", lambda: running.broker.acknowledged == [1, 2])
    assert [result["version"] for result in running.find("out/in/a")] == ["1.0.0", "2.0.0"]

    def refuse_all(_: dict[str, Any]) -> None:
        raise RequestRefused("the model failed")

    running.inference.step = refuse_all
    running.broker.deliver(3, b"[1, 2]")
    wait_for("the refusal", lambda: running.broker.acknowledged == [1, 2, 3])
    assert [trouble["code"] for trouble in running.find("err")] == ["bridge.refused"]


@pytest.mark.parametrize(
    ("payload", "code"), [(b"no json", "bridge.payload"), (b"[" + b"1," * 40 + b"1]", "bridge.payload")]
)
def test_a_message_that_is_no_sample_goes_to_the_errors(running: Running, payload: bytes, code: str) -> None:
    running.broker.deliver(1, payload)
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1])
    assert [trouble["code"] for trouble in running.find("err")] == [code]
    assert running.inference.asked == []


def test_a_defect_is_an_answer_too(running: Running) -> None:
    def fail(_: dict[str, Any]) -> None:
        raise ZeroDivisionError("surprise")

    running.inference.step = fail
    running.broker.deliver(1, b"[1, 2]")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1])
    assert [trouble["code"] for trouble in running.find("err")] == ["internal"]


def test_what_an_old_session_brings_on_other_topics_is_acknowledged_and_left(running: Running) -> None:
    running.broker.deliver(9, b"[1, 2]", topic="elsewhere")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [9])
    assert running.broker.published == []


def test_a_lost_broker_is_connected_again_and_old_events_are_ignored(running: Running) -> None:
    running.broker.break_off()
    wait_for("the next attempt", lambda: running.broker.attempt == 2)
    running.broker.deliver(1, b"[1, 2]", attempt=1)
    running.broker.deliver(2, b"[1, 2]")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [2])


def test_an_answer_that_the_broker_does_not_want_is_counted_and_not_tried_for_ever(running: Running) -> None:
    running.broker.refusal = "Not authorized"
    running.broker.deliver(1, b"[1, 2]")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1])
    wait_for("the status", lambda: running.broker.statuses[-1]["refused"] == 1)
    assert len(running.broker.published) == 1
    running.broker.deliver(2, b"[1, 2]")
    wait_for("the acknowledgement", lambda: running.broker.acknowledged == [1, 2])
    assert len(running.broker.published) == 1, "a refused topic is left alone for a while"
    running.broker.deliver(2, b"[1, 2]", again=True)
    wait_for("another acknowledgement", lambda: running.broker.acknowledged == [1, 2, 2])
    assert len(running.inference.asked) == 2
