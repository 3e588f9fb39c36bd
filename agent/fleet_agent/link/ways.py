"""How a broker is spoken to: which version of MQTT, with TLS or without, at which port.

What enrolment said comes first. While nobody answers, the other version of MQTT is tried beside it; and by
a device that was enrolled with a broker without TLS, that with TLS, also at the port that is usual for it.
"""

from itertools import cycle
from typing import Final, NamedTuple

from fleet_shared.messages.enrolment import BrokerAddress

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883
"""As registered for MQTT; a controller's own broker moved from one to the other."""


class Way(NamedTuple):
    mqtt5: bool
    tls: bool
    port: int


class Ways:
    """``now``: the way of this attempt. ``may_secure``: whether there are terms for TLS."""

    def __init__(self, broker: BrokerAddress, *, may_secure: bool) -> None:
        versions = (broker.mqtt5, not broker.mqtt5)
        guesses = may_secure and not broker.tls
        secure = [True] if broker.tls else [False, True] if guesses else [False]
        moved = TLS_PORT if guesses and broker.port == PLAIN_PORT else None
        self._said = broker.tls
        self._usual = cycle([Way(version, tls, broker.port) for tls in secure for version in versions])
        self._moved = None if moved is None else cycle([Way(version, True, moved) for version in versions])
        self.now = self._before = next(self._usual)

    @property
    def is_guess(self) -> bool:
        """Whether it is with TLS, and nobody said so."""
        return self.now.tls and not self._said

    def choose_next(self, *, reached: bool) -> None:
        """Nobody answered. Where there is no connection at all, every other attempt goes to the other port: a
        broker that is away for a while is not found later for it by more than one."""
        if self.now is not self._before:
            self.now = self._before
        elif reached or self.is_guess:  # without TLS there, its handshake fails before anything is reached
            self.now = self._before = next(self._usual)
        elif self._moved is not None:
            self.now = next(self._moved)

    def keep(self) -> None:
        """This way is the right one; another version of MQTT is all that is tried from now on."""
        versions = (self.now.mqtt5, not self.now.mqtt5)
        self._said, self._moved = True, None
        self._usual = cycle([self.now._replace(mqtt5=version) for version in versions])
        self.now = self._before = next(self._usual)
