"""Release keys, the assignment key, and where releases lie."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet_shared.messages.desired import Desired
from fleet_shared.names import Digest


class Trust(Protocol):
    """Release keys and assignment key. What is not signed by enough release keys waits for people."""

    @property
    def key_epoch(self) -> int:
        """That of the assignment key in force; it changes when another is released."""

    def release(self, manifests: Mapping[Digest, bytes]) -> None:
        """Release these manifests, or let them wait; releasing one again changes nothing."""

    def unsigned(self, manifests: Iterable[Digest]) -> frozenset[Digest]:
        """Return those that are not released."""

    def release_authorities(self, pems: Sequence[str]) -> None:
        """Release the certificate authorities by which devices know their controller, newest first."""

    def sign_desired(self, desired: Desired) -> bytes:
        """Return the signed envelope, as it is published."""

    def newest_timestamp(self) -> bytes:
        """Return the newest timestamp of the release metadata, from memory."""

    def copy_out(self) -> None:
        """Bring the mirror of the release metadata up to date, if there is one."""

    def catch_up(self, seen: bytes) -> bool:
        """Go above what was ``seen``, the newest timestamp that others hold, if it is of this repository and
        newer than what it holds: it was restored from an older copy. Tell whether it was."""

    def refresh(self, now_ms: int) -> None:
        """Renew release metadata whose end is near."""


class ReleaseMirror(Protocol):
    """Where the release repository lies a second time, by the paths under which it is served."""

    def paths(self) -> frozenset[str]: ...

    def get(self, path: str) -> bytes | None: ...

    def put(self, path: str, content: bytes) -> None: ...

    def remove(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class RoleStanding:
    """``keyids``: who may sign for a role of the release metadata, ``threshold`` how many must, ``at_hand``
    which of them the controller has itself."""

    role: str
    keyids: tuple[str, ...]
    threshold: int
    at_hand: tuple[str, ...]
    version: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document that waits for so many more signatures, by any of ``keyids``."""

    role: str
    version: int
    missing: int
    keyids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustStanding:
    root_version: int
    key_epoch: int
    assignment_keyid: str
    roles: tuple[RoleStanding, ...]
    waiting: tuple[Waiting, ...]


class ReleaseKeys(Protocol):
    """Who signs releases, and what waits for them."""

    def standing(self) -> TrustStanding: ...

    def to_sign(self) -> bytes:
        """Return the file that is carried to the keys; raise `Conflict` (``trust.sign.nothing``)."""

    def take_signed(self, raw: bytes) -> TrustStanding:
        """Take up the signatures in the file that came back; raise `CloudError` (``trust.sign.*``)."""

    def rotate(self, role: str, public: Sequence[str], *, threshold: int | None = None) -> TrustStanding:
        """Let other keys stand for ``role``: those whose public halves are given, else a new one."""

    def revoke(self, keyid: str) -> TrustStanding:
        """Let a key sign nothing any more."""


class AuthorityReleases(Protocol):
    """A part of `Trust`: devices believe the authorities that the release keys signed."""

    def release_authorities(self, pems: Sequence[str]) -> None:
        """Release these certificates, newest first; releasing the same again changes nothing."""

    def released_authorities(self) -> Sequence[str]:
        """Return those that devices can know of, newest first; not what waits for signatures."""
