"""Which telemetry batch goes next. Time is an argument; nothing here sleeps or sends.

One batch of a stream is in flight at a time, streams one after the other: the cloud accepts rows
in order only, and a batch carries many. No answer within the time-out: it is sent again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fleet_shared.messages.telemetry import Ack, TelemetryBatch

log = logging.getLogger(__name__)

RESEND_AFTER_S: Final = 10.0


class Rows(Protocol):
    """The part of the outbox that sending needs."""

    def streams(self) -> list[str]: ...

    def load_batch(self, stream: str, after: int = 0) -> TelemetryBatch | None: ...

    def apply_ack(self, ack: Ack) -> int: ...


@dataclass
class Sender:
    """``jitter`` gives a factor around 1, so that a thousand devices do not resend at once."""

    rows: Rows
    jitter: Callable[[], float]
    _stream: str | None = None
    _resend_at_s: float = 0.0

    def load_next(self, now_s: float) -> TelemetryBatch | None:
        """Return the batch to send now, or none while one is in flight or nothing waits."""
        if self._stream is not None and now_s < self._resend_at_s:
            return None
        for stream in self.rows.streams():
            if (batch := self.rows.load_batch(stream)) is not None:
                self._stream = stream
                self._resend_at_s = now_s + RESEND_AFTER_S * self.jitter()
                return batch
        self._stream = None
        return None

    def apply_ack(self, ack: Ack) -> int:
        """Forget what is acknowledged, and let the next batch go; return the rows removed. While the
        outbox cannot be written it raises, and the batch is sent again in its time."""
        removed = self.rows.apply_ack(ack)
        if ack.stream == self._stream:
            self._stream = None
        for rejected in ack.rejected:
            log.warning("the controller refused telemetry row %d: %s", rejected.seq, rejected.code)
        return removed

    def reset(self) -> None:
        """Forget what is in flight: the connection is a new one."""
        self._stream = None
