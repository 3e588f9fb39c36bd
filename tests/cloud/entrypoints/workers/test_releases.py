"""Releases on their way out: announced, copied, renewed, and above what others hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet_cloud.entrypoints.workers.releases import REFRESH_MS, ReleaseWorker
from fleet_cloud.services.ports import OutgoingMessage
from fleet_shared.limits import RELEASES_BYTES
from tests.kit.parts import Moving


@dataclass
class Told:
    """A trust, a registry and a broker that remember what they were asked."""

    newest: bytes = b"1"
    held: bytes | None = None
    connected_ms: int | None = 1
    has: bool = True
    done: list[str] = field(default_factory=list)

    def newest_timestamp(self) -> bytes:
        return self.newest

    def copy_out(self) -> None:
        self.done.append("copy")

    def refresh(self, _now_ms: int) -> None:
        self.done.append("refresh")

    def release_missing(self) -> int:
        self.done.append("missing")
        return 0

    def catch_up(self, seen: bytes) -> bool:
        self.done.append(f"catch up {seen.decode()}")
        return False

    def publish(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        (message,) = messages
        assert message.retain
        self.done.append(f"{message.topic} {message.payload.decode()}")
        return [self.has]

    def worker(self, clock: Moving) -> ReleaseWorker:
        return ReleaseWorker(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            clock,
            "releases",
            self.publish,
            lambda: self.connected_ms,
            lambda: self.held,
        )

    def take(self) -> list[str]:
        done, self.done = self.done, []
        return done


def test_the_newest_timestamp_is_copied_before_it_is_announced() -> None:
    told, clock = Told(), Moving()
    worker = told.worker(clock)
    worker.turn()
    assert told.take() == ["missing", "refresh", "copy", "releases 1"]
    worker.turn()
    assert told.take() == []
    told.newest = b"2"
    worker.turn()
    assert told.take() == ["copy", "releases 2"]
    clock.at_ms += REFRESH_MS
    worker.turn()
    assert told.take() == ["refresh"]


def test_an_order_waits_until_what_it_needs_is_announced_but_not_before_the_broker_was_looked_at() -> None:
    told = Told(held=b"newer than the folder")
    worker = told.worker(Moving())
    worker.announce_first()
    assert told.take() == []
    worker.turn()
    told.take()
    told.newest = b"2"
    worker.announce_first()
    worker.announce_first()
    assert told.take() == ["releases 2"]
    told.newest, told.connected_ms = b"3", 7
    worker.announce_first()
    assert told.take() == [], "another broker may hold what is newer"


def test_it_is_announced_again_to_a_broker_that_was_away() -> None:
    told = Told(connected_ms=None)
    worker = told.worker(Moving())
    worker.turn()
    assert "releases 1" not in told.take()
    told.connected_ms, told.has = 5, False
    worker.turn()
    worker.turn()
    assert told.take() == ["releases 1", "releases 1"]
    told.has = True
    worker.turn()
    worker.turn()
    assert told.take() == ["releases 1"]
    told.connected_ms = 6
    worker.turn()
    assert told.take() == ["releases 1"]


def test_what_the_broker_holds_is_looked_at_once() -> None:
    told = Told(held=b"old")
    worker = told.worker(Moving())
    worker.turn()
    worker.turn()
    assert told.take().count("catch up old") == 1
    told.held = b"x" * (RELEASES_BYTES + 1)
    worker.turn()
    assert told.take() == []
