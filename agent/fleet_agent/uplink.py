"""Keep the way to the broker open, and send what waits: connect, give up, connect again."""

import logging
from dataclasses import dataclass
from typing import Final

from fleet_agent.errors import AgentError
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import ANSWER_TIMEOUT_S
from fleet_agent.link.sender import Sender
from fleet_agent.ports import Link
from fleet_shared.errors import MessageError
from fleet_shared.messages.telemetry import Ack
from fleet_shared.topics import Channel
from fleet_shared.wire import Document, encode

log = logging.getLogger(__name__)

READ_AGAIN_S: Final = 5.0
"""How long an outbox that cannot be read is left alone."""


@dataclass
class Uplink:
    """Time is on the boot clock. Nothing here waits for the network."""

    link: Link
    sender: Sender
    backoff: Backoff
    online: bool = False
    _away: bool = False
    _reconnect_at_s: float | None = 0.0
    _give_up_at_s: float | None = None
    _rows_at_s: float = 0.0

    def on_connected(self) -> None:
        log.info("connected to the broker")
        self.online, self._away = True, False
        self._give_up_at_s = None
        self.backoff.reset()
        self.sender.reset()

    def on_disconnected(self, reason: str, now_s: float) -> None:
        if not self._away:
            log.warning("the broker is away, and is tried again: %s", reason)
        self.online, self._away = False, True
        self._give_up_at_s = None
        self._reconnect_at_s = now_s + self.backoff.next_delay_s()

    def reconnect(self, now_s: float) -> None:
        """Connect anew, with a certificate or terms that changed. The old connection ends as agreed (its will
        is not carried out), so presence has no break."""
        if self.online:
            self.online = False
            self._reconnect_at_s = now_s

    def tick(self, now_s: float) -> None:
        if self._reconnect_at_s is not None and now_s >= self._reconnect_at_s:
            self._reconnect_at_s = None
            self._give_up_at_s = now_s + ANSWER_TIMEOUT_S
            self.link.connect()
        if self._give_up_at_s is not None and now_s >= self._give_up_at_s:
            self._give_up_at_s = None if self.link.give_up() else now_s + ANSWER_TIMEOUT_S
        if self.online and now_s >= self._rows_at_s:
            self._send_rows(now_s)

    def send(self, channel: Channel, document: Document) -> None:
        """Send ``document`` now or not at all: whoever needs an answer asks again."""
        try:
            self.link.publish(channel, encode(document))
        except (MessageError, UnicodeError) as exc:
            log.error("a message on %s cannot be sent: %s", channel.value, exc)

    def apply_ack(self, ack: Ack) -> None:
        try:
            self.sender.apply_ack(ack)
        except AgentError as exc:  # the batch is sent again
            log.error("%s (%s)", exc.message, exc.code)

    def _send_rows(self, now_s: float) -> None:
        try:
            batch = self.sender.load_next(now_s)
        except AgentError as exc:
            log.error("%s (%s)", exc.message, exc.code)
            self._rows_at_s = now_s + READ_AGAIN_S
            return
        if batch is not None:
            self.send(Channel.TELEMETRY, batch)
