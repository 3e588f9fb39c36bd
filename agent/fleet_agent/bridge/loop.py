"""The bridge's loop: one thread owns the desk; the broker and the inference only put events on its
queue."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fleet_agent.bridge.answers import Answer, tell_result, tell_status, tell_trouble
from fleet_agent.bridge.broker import Arrived, BrokerEvent, Confirmed, Connected, Disconnected
from fleet_agent.bridge.desk import Desk, Entry, Message, Publication
from fleet_agent.bridge.payloads import Id, ModelInfo, PayloadError, read_payload
from fleet_agent.bridge.settings import BridgeSettings, Route, matches
from fleet_agent.bridge.worker import Inference, RequestRefused, WorkerAway
from fleet_agent.inbox import take
from fleet_agent.link.backoff import Backoff
from fleet_shared.errors import FleetError

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 30.0
"""For a broker to take the connection and say so."""
STABLE_S: Final = 5.0
"""A connection that lasts so long is a good one; after others the next try comes ever later."""
REFUSED_S: Final = 60.0
"""What is refused is left alone for so long: Mosquitto 2.0.11 closes the connection with a refusal."""
REFUSED_TOPICS_MAX: Final = 1000


@dataclass(frozen=True)
class Answered:
    entry: Entry
    answer: Answer
    id: Id
    took_s: float


@dataclass(frozen=True)
class Failed:
    entry: Entry
    error: FleetError
    id: Id = None


@dataclass(frozen=True)
class Stop:
    pass


Event = BrokerEvent | Answered | Failed | Stop


class LocalBroker(Protocol):
    """What the loop needs of the connection; see `broker.Broker`."""

    attempt: int

    def connect(self) -> None: ...

    def publish(self, publication: Publication) -> int | None: ...

    def publish_status(self, payload: bytes) -> None: ...

    def acknowledge(self, number: int) -> None: ...

    def drop(self) -> None: ...

    def close(self) -> None: ...


class Clerk:
    """Does the inference, in a thread of its own: one message at a time, in the order of arrival."""

    def __init__(
        self, inference: Inference, settings: BridgeSettings, notify: Callable[[Event], None]
    ) -> None:
        self._inference, self._settings, self._notify = inference, settings, notify
        self._jobs: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._models: dict[str, ModelInfo] = {}
        threading.Thread(target=self._run, name="inference", daemon=True).start()

    def give(self, entry: Entry) -> None:
        self._jobs.put(entry)

    def _run(self) -> None:
        while True:
            entry = self._jobs.get()
            try:
                self._notify(self._infer(entry))
            except FleetError as exc:
                self._notify(Failed(entry, exc))
            except Exception as exc:  # the guard of the thread: the message gets an answer
                log.exception("a message failed")
                self._notify(Failed(entry, FleetError(f"{type(exc).__name__}: {exc}", code="internal")))

    def _infer(self, entry: Entry) -> Event:
        """A new version may take other inputs: what was known of the model is then read anew."""
        route = self._settings.route[entry.message.route]
        known = self._models.get(route.model)
        event = self._ask(entry, route, known or self._describe(route))
        if known is None or not _is_refused(event):
            return event
        fresh = self._describe(route)
        return event if fresh == known else self._ask(entry, route, fresh)

    def _describe(self, route: Route) -> ModelInfo:
        info = self._models[route.model] = self._inference.describe(route.model)
        return info

    def _ask(self, entry: Entry, route: Route, info: ModelInfo) -> Event:
        id_: Id = None
        try:
            _check_size(entry.message, self._settings.payload_bytes_max)
            request = read_payload(entry.message.payload, route, info)
            id_ = request.id
            begin_s = time.monotonic()
            answer = self._inference.infer(route.model, request)
        except FleetError as exc:
            return Failed(entry, exc, id_)
        return Answered(entry, answer, id_, time.monotonic() - begin_s)


def _check_size(message: Message, limit_bytes: int) -> None:
    if len(message.payload) > limit_bytes:
        raise PayloadError(
            f"the message has {len(message.payload)} bytes, at most {limit_bytes} are taken",
            hint="send less, or raise payload_bytes_max",
        )


def _is_refused(event: Event) -> bool:
    return isinstance(event, Failed) and isinstance(event.error, PayloadError | RequestRefused)


class Bridge:
    """``inbox`` gets the events of ``broker`` and of the clerk; `stop` may be called from anywhere."""

    def __init__(
        self,
        settings: BridgeSettings,
        broker: LocalBroker,
        inference: Inference,
        inbox: "queue.SimpleQueue[Event]",
        *,
        reconnect: Backoff,
        retry: Backoff,
    ) -> None:
        self._settings, self._broker, self._inbox = settings, broker, inbox
        self._desk = Desk(settings.queue_messages)
        self._clerk = Clerk(inference, settings, inbox.put)
        self._reconnect, self._retry = reconnect, retry
        self._published: dict[int, Entry] = {}
        self._connected = self._worker_there = False
        self._connect_at_s: float | None = time.monotonic()
        self._give_up_at_s: float | None = None
        self._connected_at_s = 0.0
        self._refused_until_s: dict[str, float] = {}
        self._work_at_s = self._status_at_s = 0.0

    def stop(self) -> None:
        self._inbox.put(Stop())

    def run(self) -> None:
        """Work until `stop`."""
        while True:
            self._tick(time.monotonic())
            event = take(self._inbox, self._next_wait_s(time.monotonic()))
            if event is None:
                continue
            if isinstance(event, Stop):
                self._broker.close()
                return
            self._take(event)

    def _next_wait_s(self, now_s: float) -> float:
        times = [self._connect_at_s, self._give_up_at_s]
        times += [self._status_at_s if self._connected else None]
        times += [self._work_at_s if self._work_at_s > now_s else None]
        return min((max(0.0, at_s - now_s) for at_s in times if at_s is not None), default=60.0)

    def _tick(self, now_s: float) -> None:
        if self._connect_at_s is not None and now_s >= self._connect_at_s:
            self._connect_at_s, self._give_up_at_s = None, now_s + ANSWER_TIMEOUT_S
            self._broker.connect()
        if self._give_up_at_s is not None and now_s >= self._give_up_at_s:
            self._lose("the broker does not answer")
        if self._connected and now_s >= self._status_at_s:
            self._tell_status(now_s)
        if now_s >= self._work_at_s and (entry := self._desk.take_job()) is not None:
            self._clerk.give(entry)

    def _take(self, event: Event) -> None:
        if isinstance(event, Answered | Failed):
            self._take_answer(event)
        elif isinstance(event, Stop) or event.attempt != self._broker.attempt:
            return
        elif isinstance(event, Connected):
            self._begin(event)
        elif isinstance(event, Disconnected):
            self._lose(event.reason)
        elif isinstance(event, Arrived):
            self._arrive(event)
        else:
            self._confirm(event)
        self._acknowledge()

    def _begin(self, event: Connected) -> None:
        log.info("connected to the local broker%s", ", which kept the session" if event.session_kept else "")
        self._connected, self._give_up_at_s = True, None
        self._connected_at_s = time.monotonic()
        self._published.clear()
        for entry in self._desk.reconnect(session_kept=event.session_kept):
            self._publish(entry)
        self._status_at_s = self._refused_until_s.get(self._settings.status_topic, 0.0)

    def _lose(self, reason: str) -> None:
        if self._connect_at_s is None:
            if self._connected and time.monotonic() - self._connected_at_s >= STABLE_S:
                self._reconnect.reset()
            delay_s = self._reconnect.next_delay_s()
            log.warning("no local broker (%s); next try in %.1f s", reason, delay_s)
            self._connected, self._give_up_at_s = False, None
            self._connect_at_s = time.monotonic() + delay_s
            self._broker.drop()

    def _arrive(self, event: Arrived) -> None:
        route = next(
            (i for i, found in enumerate(self._settings.route) if matches(found.input, event.topic)), None
        )
        is_done = route is None  # of a session with other filters than today's
        if route is not None:
            message = Message(event.topic, event.payload, route, time.monotonic(), event.correlation)
            is_done = self._desk.arrive(message, event.number, again=event.again)
        if is_done and event.number is not None:
            self._broker.acknowledge(event.number)

    def _take_answer(self, event: Answered | Failed) -> None:
        if isinstance(event, Failed) and self._try_again(event):
            return
        entry = event.entry
        self._worker_there, self._work_at_s = True, 0.0
        self._retry.reset()
        self._desk.answer(entry, self._compose(event), failed=isinstance(event, Failed))
        self._publish(entry)

    def _try_again(self, event: Failed) -> bool:
        """A worker that is away is waited for; a message that breaks it time and again is given up."""
        entry, error = event.entry, event.error
        if not isinstance(error, WorkerAway):
            return False
        entry.tries += error.broken
        if entry.tries >= self._settings.tries_max:
            return False
        if self._worker_there:
            log.warning("%s (%s)", error.message, error.code)
        self._worker_there = False
        self._work_at_s = time.monotonic() + self._retry.next_delay_s()
        self._desk.put_back(entry)
        return True

    def _compose(self, event: Answered | Failed) -> Publication:
        message = event.entry.message
        route = self._settings.route[message.route]
        if isinstance(event, Failed):
            return tell_trouble(message, route, event.error, event.id)
        return tell_result(
            message,
            route,
            event.answer,
            event.id,
            latency_us=round((time.monotonic() - message.at_s) * 1e6),
            inference_us=round(event.took_s * 1e6),
        )

    def _publish(self, entry: Entry) -> None:
        """What cannot be handed over now is published at the next connection."""
        if entry.publication is None or not self._connected:
            return
        topic = entry.publication.topic
        if time.monotonic() < self._refused_until_s.get(topic, 0.0):
            self._desk.confirm(entry, refused=True)
            return
        try:
            number = self._broker.publish(entry.publication)
        except ValueError as exc:
            self._refuse(topic, str(exc))
            self._desk.confirm(entry, refused=True)
            return
        if number is not None:
            self._published[number] = entry

    def _confirm(self, event: Confirmed) -> None:
        entry = self._published.pop(event.number, None)
        publication = entry.publication if entry is not None else None
        if event.refusal:
            self._refuse(publication.topic if publication else self._settings.status_topic, event.refusal)
        if entry is not None:
            self._desk.confirm(entry, refused=bool(event.refusal))

    def _refuse(self, topic: str, why: str) -> None:
        log.error("what is published to %s is refused: %s", topic, why)
        if len(self._refused_until_s) >= REFUSED_TOPICS_MAX:
            self._refused_until_s.clear()
        until_s = self._refused_until_s[topic] = time.monotonic() + REFUSED_S
        if topic == self._settings.status_topic:
            self._status_at_s = until_s

    def _acknowledge(self) -> None:
        if self._connected:
            for number in self._desk.take_acknowledged():
                self._broker.acknowledge(number)

    def _tell_status(self, now_s: float) -> None:
        self._status_at_s = now_s + self._settings.status_interval_s
        self._broker.publish_status(
            tell_status(self._desk.counts, self._desk.held, worker=self._worker_there)
        )
