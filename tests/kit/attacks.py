"""The attacks on real processes, as data: `tests/system/test_trust_attacks.py` carries them out, and the page
docs/security.md shows this table."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Who(str, Enum):
    """What the attacker holds."""

    NETWORK = "network"
    """The way between device and mirror, or the clock of the device."""
    BROKER = "broker"
    """May say anything on any topic."""
    CONTROLLER = "controller"
    """Every key that lies at the controller: assignment, snapshot, timestamp; no targets keys."""
    MIRROR = "mirror"
    """Serves release files and blobs as it likes."""
    ONE_KEY = "one key"
    """One of two targets keys, beside all that lies at the controller."""
    TWO_KEYS = "two keys"
    """Both targets keys and a mirror, without the assignment key."""
    DEVICE = "device"
    """May write to the files of the device."""


@dataclass(frozen=True)
class Attack:
    """``code``: with which the device says what it refused; empty where the attack changes nothing. ``long``:
    left to the long tests."""

    name: str
    who: Who
    code: str
    long: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


ORDERS: Final = (
    Attack("arbitrary software", Who.BROKER, "trust.desired.signature"),
    Attack("released but not assigned", Who.BROKER, "trust.desired.signature", long=True),
    Attack("no envelope at all", Who.BROKER, "trust.envelope.malformed", long=True),
    Attack("replayed order", Who.BROKER, "trust.desired.replayed"),
    Attack("forwarded order", Who.BROKER, "trust.desired.device", long=True),
    Attack("assigned but not released", Who.CONTROLLER, "trust.manifest.unreleased"),
    Attack("order for another device", Who.CONTROLLER, "trust.desired.device", long=True),
    Attack("wrong software", Who.CONTROLLER, "trust.manifest.mismatch", long=True),
    Attack("expired order", Who.CONTROLLER, "trust.desired.expired", long=True),
    Attack("order of the future", Who.CONTROLLER, "trust.desired.future", long=True),
    Attack("order of another epoch", Who.CONTROLLER, "trust.desired.epoch", long=True),
    Attack("generation 2 to the 63", Who.CONTROLLER, "trust.desired.order", long=True),
    Attack("extraneous dependencies", Who.CONTROLLER, "trust.desired.entries", long=True),
    Attack(
        "order that asks for more than is understood", Who.CONTROLLER, "trust.desired.critical", long=True
    ),
)
"""What somebody puts in the place of the order that the broker keeps for a device."""

MIRRORS: Final = (
    Attack("metadata of another key", Who.MIRROR, "trust.metadata.invalid", long=True),
    Attack("another manifest behind a released name", Who.MIRROR, "trust.manifest.digest", long=True),
    Attack("manifest whose blob differs", Who.MIRROR, "transfer.digest"),
    Attack("endless metadata", Who.MIRROR, "trust.metadata.length", long=True),
    Attack("endless blob", Who.MIRROR, "transfer.too_long", long=True),
    Attack("malicious mirror", Who.MIRROR, "trust.metadata.older"),
    Attack("rollback", Who.MIRROR, "trust.metadata.older", long=True),
    Attack("mix and match", Who.MIRROR, "trust.metadata.invalid", long=True),
    Attack("mirror that has nothing", Who.MIRROR, "trust.metadata.unreachable", long=True),
    Attack("slow metadata", Who.MIRROR, "", long=True),
)
"""What a mirror does while a push is on its way."""

NEWS: Final = (
    Attack("news that are no metadata", Who.BROKER, "", long=True),
    Attack("news that nobody signed", Who.BROKER, "", long=True),
    Attack("old news", Who.BROKER, "", long=True),
)
"""What somebody retains in the place of the newest timestamp."""

KEYS: Final = (
    Attack("key compromise under the threshold", Who.ONE_KEY, "trust.metadata.invalid"),
    Attack("key compromise over the threshold", Who.TWO_KEYS, "trust.desired.signature", long=True),
    Attack("fast-forward", Who.CONTROLLER, "trust.metadata.older", long=True),
    Attack("the last generation of an epoch", Who.CONTROLLER, "desired.generation"),
)
"""After which operators replace keys."""

CLOCKS: Final = (
    Attack("clock in 1970", Who.NETWORK, "", long=True),
    Attack("clock in 2099", Who.NETWORK, ""),
    Attack("clock in 2040", Who.NETWORK, "trust.metadata.expired", long=True),
    Attack("indefinite freeze", Who.MIRROR, "trust.metadata.expired", long=True),
)

FILES: Final = (Attack("blob swapped after its verification", Who.DEVICE, "slot.damaged"),)

AWAY: Final = (Attack("three months offline", Who.NETWORK, "", long=True),)

ATTACKS: Final = (*ORDERS, *MIRRORS, *NEWS, *KEYS, *CLOCKS, *FILES, *AWAY)
