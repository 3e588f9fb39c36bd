"""Who signs releases: how it stands, what waits, and which keys are replaced."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet_cloud.domain.people import Actor
from fleet_cloud.services.devices import all_devices
from fleet_cloud.services.ports import Clock, ReleaseKeys, TrustStanding, UnitOfWork


@dataclass(frozen=True, slots=True)
class Belief:
    """How many devices believe what, as they last said; ``silent`` ones have never said so."""

    root_versions: Mapping[int, int]
    key_epochs: Mapping[int, int]
    silent: int


@dataclass(frozen=True, slots=True)
class Releases:
    uow: UnitOfWork
    keys: ReleaseKeys
    clock: Clock

    def standing(self) -> TrustStanding:
        return self.keys.standing()

    def belief(self) -> Belief:
        with self.uow.read() as transaction:
            reported = [device.reported for device in all_devices(transaction)]
        trust = [one.trust for one in reported if one is not None and one.trust is not None]
        return Belief(
            root_versions=Counter(one.root_version for one in trust),
            key_epochs=Counter(one.key_epoch for one in trust),
            silent=len(reported) - len(trust),
        )

    def to_sign(self) -> bytes:
        """Return the file to sign; raise `Conflict` (``trust.sign.nothing``)."""
        return self.keys.to_sign()

    def take_signed(self, by: Actor, raw: bytes) -> TrustStanding:
        """Take up signatures; raise `CloudError` (``trust.sign.*``)."""
        with self.uow.begin() as transaction:
            waited = _shown(self.keys.standing())
            after = self.keys.take_signed(raw)
            transaction.audit.append(
                by, self.clock.now_ms(), "trust.sign", "releases", before=waited, after=_shown(after)
            )
        return after

    def rotate(
        self, by: Actor, role: str, public: Sequence[str], *, threshold: int | None = None
    ) -> TrustStanding:
        with self.uow.begin() as transaction:
            before = self.keys.standing()
            after = self.keys.rotate(role, public, threshold=threshold)
            transaction.audit.append(
                by,
                self.clock.now_ms(),
                "trust.rotate",
                role,
                before=_keys(before, role),
                after=_keys(after, role),
            )
        return after

    def revoke(self, by: Actor, keyid: str) -> TrustStanding:
        with self.uow.begin() as transaction:
            before = self.keys.standing()
            named = [one.role for one in before.roles if keyid in one.keyids]
            after = self.keys.revoke(keyid)
            transaction.audit.append(
                by, self.clock.now_ms(), "trust.revoke", keyid, before=", ".join(named), after=_shown(after)
            )
        return after


def _shown(standing: TrustStanding) -> str:
    waiting = ", ".join(f"{one.role} {one.version}" for one in standing.waiting)
    return f"root {standing.root_version}, waiting: {waiting or 'nothing'}"


def _keys(standing: TrustStanding, role: str) -> str:
    if role == "assignment":
        return f"epoch {standing.key_epoch}, key {standing.assignment_keyid}"
    keys = {one.role: one for one in standing.roles}[role]
    return f"root {standing.root_version}, {keys.threshold} of {', '.join(keys.keyids)}"
