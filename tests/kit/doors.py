"""A broker's door in memory: it remembers what it was told, and can be away."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet_cloud.errors import Unavailable
from fleet_shared.names import DeviceId, Digest


@dataclass
class Door:
    """Implements `BrokerAccess`. ``inside``: who may come in, with which key; ``cut``: whose session was
    ended, in order; ``syncs``: how often it was told of everybody."""

    inside: dict[DeviceId, Digest] = field(default_factory=dict)
    cut: list[DeviceId] = field(default_factory=list)
    syncs: int = 0
    away: bool = False

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        self._check()
        self.inside, self.syncs = dict(devices), self.syncs + 1

    def admit(self, device: DeviceId, public_key_sha256: Digest) -> None:
        self._check()
        if self.inside.get(device, public_key_sha256) != public_key_sha256:
            self.cut.append(device)
        self.inside[device] = public_key_sha256

    def revoke(self, device: DeviceId) -> None:
        self._check()
        if self.inside.pop(device, None) is not None:
            self.cut.append(device)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the broker is away", code="broker.unreachable")
