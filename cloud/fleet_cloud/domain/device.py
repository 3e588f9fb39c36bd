"""A device as the cloud knows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fleet_shared.codec import Encoding
from fleet_shared.messages.reported import Reported
from fleet_shared.names import DeviceId, Digest

ALWAYS: Final = frozenset({Encoding.IDENTITY.value, Encoding.ZSTD.value})


@dataclass(frozen=True, slots=True)
class Device:
    """``labels`` are set by operators; ``reported`` is what the device said of itself last. ``revoked_ms``:
    since when it is let in no more."""

    id: DeviceId
    enrolled_ms: int
    public_key_sha256: Digest
    labels: Mapping[str, str] = field(default_factory=dict)
    online: bool = False
    session: str | None = None
    last_seen_ms: int | None = None
    reported: Reported | None = None
    revoked_ms: int | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """What selectors see: labels, ``fact.*`` and ``id``."""
        return {**self.labels, **_facts(self.reported), "id": self.id}

    def decodes(self, encoding: Encoding) -> bool:
        """Whether it is of use to offer an encoding: one that is silent about what it decodes gets what
        every agent ever decoded."""
        reported = () if self.reported is None else self.reported.facts.encodings
        return encoding.value in (reported or ALWAYS)


def _facts(reported: Reported | None) -> dict[str, str]:
    if reported is None:
        return {}
    facts = reported.facts
    values = {
        "agent": facts.agent_version,
        "hostname": facts.hostname,
        "machine": facts.machine,
        "os": facts.os,
        "python": facts.python,
        "hardware": facts.hardware,
        "runtime": facts.runtimes[0].name if facts.runtimes else "",
    }
    return {f"fact.{name}": value for name, value in values.items() if value}
