"""The retained picture of this device at the broker: published when it changed, not at every change."""

import logging
from dataclasses import dataclass
from typing import Final

from fleet_agent.ports import Link
from fleet_shared.errors import MessageError
from fleet_shared.messages.reported import Reported
from fleet_shared.topics import Channel
from fleet_shared.wire import encode

log = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 0.5
"""Progress is reported at most this often."""


@dataclass
class Reporter:
    """`soon` asks for a report, `is_due` tells when to make one; time is on the boot clock."""

    link: Link
    _last: Reported | None = None
    _at_s: float | None = None

    def soon(self, now_s: float, *, at_once: bool = False) -> None:
        if at_once:
            self._at_s = now_s
        elif self._at_s is None:
            self._at_s = now_s + REPORT_EVERY_S

    def is_due(self, now_s: float) -> bool:
        return self._at_s is not None and now_s >= self._at_s

    def publish(self, document: Reported, now_s: float) -> None:
        """Publish ``document`` unless the broker has it. What the link does not take is tried again;
        what no message can hold is said once."""
        self._at_s = None
        if document == self._last:
            return
        try:
            taken = self.link.publish(Channel.REPORTED, encode(document), retain=True)
        except (MessageError, UnicodeError) as exc:
            log.error("the state of this device cannot be reported: %s", exc)
            taken = True
        if taken:
            self._last = document
        else:
            self.soon(now_s)
