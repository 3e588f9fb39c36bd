"""How to speak to a broker: by which version of MQTT, and whether with TLS.

Brokers may say nothing at all to a version that they do not know, and one that asks for TLS says nothing to a
device that was enrolled when it did not. So the other ways are tried in turn. Never back from TLS: a device
that was enrolled with it, or was answered by it once, tries nothing else.
"""

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class Way:
    """``mqtt5``: else 3.1.1."""

    mqtt5: bool
    tls: bool


@dataclass(slots=True)
class Ways:
    """``can_secure``: whether this device has what TLS needs."""

    mqtt5: bool
    tls: bool
    can_secure: bool
    _turn: int = 0

    @property
    def current(self) -> Way:
        ways = self._ways()
        return ways[self._turn % len(ways)]

    def next(self, *, reached: bool) -> None:
        """Take the next one after an attempt without an answer. A broker that was not ``reached`` is asked
        the same way again; with TLS on trial a handshake that fails looks like that too."""
        if reached or self.current.tls is not self.tls:
            self._turn += 1

    def settle(self) -> bool:
        """Stay with the current way, which was answered; tell whether TLS is what is new in it."""
        way, was = self.current, self.tls
        self.mqtt5, self.tls, self._turn = way.mqtt5, way.tls, 0
        return self.tls and not was

    def _ways(self) -> list[Way]:
        secure = (True,) if self.tls else (False, True) if self.can_secure else (False,)
        return [Way(mqtt5, tls) for tls, mqtt5 in product(secure, (self.mqtt5, not self.mqtt5))]
