"""Release keys, assignment key and CA as the controller has them.

Whatever keys are at hand (``signers.json``) are used by themselves; what they do not suffice for waits for
people. A first run makes all keys in one folder: that is for a lab, and it says so.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Root

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.assignment import describe_key, open_assigner
from fleet_cloud.adapters.trust.bundle import Bundle, compose_bundle, take_signatures
from fleet_cloud.adapters.trust.ca import Authority
from fleet_cloud.adapters.trust.keys import KeyFolder
from fleet_cloud.adapters.trust.mirror import copy_to, restore_from, take_picture
from fleet_cloud.adapters.trust.replacing import replace_role, revoke_key
from fleet_cloud.adapters.trust.repository import ReleaseRepository
from fleet_cloud.adapters.trust.signers import FILE_SCHEME, KeyReference, Signers, parse_public, sign_with
from fleet_cloud.adapters.trust.standing import describe_standing
from fleet_cloud.errors import Invalid, SettingsError
from fleet_cloud.services.ports import ReleaseMirror, TrustStanding
from fleet_shared.envelope import (
    ASSIGNMENT_KEY_TARGET,
    AUTHORITIES_TARGET,
    AssignmentKey,
    Authorities,
    manifest_target,
)
from fleet_shared.messages.desired import Desired
from fleet_shared.names import Digest
from fleet_shared.wire import decode, encode

log = logging.getLogger(__name__)

ASSIGNMENT = "assignment"


class ControllerTrust:
    """Implements the ports `Trust`, `ReleaseKeys` and, through `authority`, `CertificateAuthority`."""

    def __init__(self, folder: Path, mirror: ReleaseMirror | None = None) -> None:
        self._folder, self._mirror = folder, mirror
        self.keys = KeyFolder(folder / "keys")
        with self.keys.locked():
            self._signers = Signers(folder)
            self.repository = ReleaseRepository(folder, self._signers)
            if not self.repository.begun:
                self._begin()
            elif not self._signers.keyids:
                self._take_over()
            if mirror is not None:
                restore_from(self.repository.files, mirror)
            self._signers.check()
            self.authority = Authority(self.keys, folder, self.repository.root_json.decode())
            self.repository.open()
            self._published()

    @property
    def key_epoch(self) -> int:
        return self._assigner.epoch

    def release(self, manifests: Mapping[Digest, bytes]) -> None:
        with self.keys.locked():
            self.repository.release({manifest_target(name): raw for name, raw in manifests.items()})
            self._published()

    def unsigned(self, manifests: Iterable[Digest]) -> frozenset[Digest]:
        wanted = {manifest_target(name): name for name in manifests}
        published = self.repository.find_published(wanted)
        return frozenset(name for path, name in wanted.items() if path not in published)

    def release_authorities(self, pems: Sequence[str]) -> None:
        with self.keys.locked():
            self.repository.release({AUTHORITIES_TARGET: encode(Authorities(pem=tuple(pems)))})
            self._published()

    def released_authorities(self) -> Sequence[str]:
        return self._authorities

    def sign_desired(self, desired: Desired) -> bytes:
        return self._assigner.sign(desired)

    def newest_timestamp(self) -> bytes:
        return self._timestamp

    def refresh(self, now_ms: int) -> None:
        with self.keys.locked():
            self.repository.refresh(datetime.fromtimestamp(now_ms / 1000, timezone.utc))
            self._published()

    def copy_out(self) -> None:
        if self._mirror is not None:
            with self.keys.locked():
                picture = take_picture(self.repository.files)
            copy_to(picture, self._mirror)

    def catch_up(self, seen: bytes) -> bool:
        with self.keys.locked():
            caught_up = self.repository.catch_up(seen)
            self._published()
        return caught_up

    def standing(self) -> TrustStanding:
        with self.keys.locked():
            return describe_standing(self.repository, self._assigner.epoch, self._assigner.keyid)

    def to_sign(self) -> bytes:
        with self.keys.locked():
            return encode(compose_bundle(self.repository))

    def take_signed(self, raw: bytes) -> TrustStanding:
        with self.keys.locked():
            self.repository.add_signatures(take_signatures(self.repository, decode(Bundle, raw)))
            self._published()
            self._forget_old_keys()
        return self.standing()

    def rotate(self, role: str, public: Sequence[str], *, threshold: int | None = None) -> TrustStanding:
        with self.keys.locked():
            if role == ASSIGNMENT:
                self._rotate_assignment(public)
            else:
                self._check_role(role, public)
                keys = [parse_public(text) for text in public] or self._make_for(role)
                replace_role(self.repository, role, keys, threshold)
            self._published()
            self._forget_old_keys()
        return self.standing()

    def revoke(self, keyid: str) -> TrustStanding:
        with self.keys.locked():
            if keyid == self._assigner.keyid:
                self._rotate_assignment(())
            else:
                revoke_key(self.repository, keyid, self._make_for)
            self._published()
            self._forget_old_keys()
        return self.standing()

    def _begin(self) -> None:
        """Make every key that is missing; nothing was published that names one. Raises `SettingsError`
        (``trust.init.unfinished``) where a person had begun to keep the root key elsewhere."""
        if self._signers.keyids and not (self._folder / "keys" / f"{Root.type}.pem").exists():
            raise SettingsError(
                f"{self._folder} was begun by `fleet trust init`, which did not end",
                hint="run it again with the same keys",
                code="trust.init.unfinished",
            )
        names = (*roles.ROLES, ASSIGNMENT)
        made = {name: self.keys.signer(name, make=True) for name in names}
        self._signers.keep([KeyReference(_uri(name), made[name].public_key) for name in names])
        root = roles.first_root({role: [made[role].public_key] for role in roles.ROLES}, {})
        sign_with(made[Root.type], root)
        released = {ASSIGNMENT_KEY_TARGET: describe_key(1, made[ASSIGNMENT].public_key)}
        self.repository.begin(root, released, bins=False)
        log.info("made all keys in %s: one folder for all of them is for a lab", self._folder / "keys")

    def _take_over(self) -> None:
        """Refer to the keys of an older repository, which had no references."""
        found = {name: self.keys.signer(name, make=False) for name in (*roles.ROLES, ASSIGNMENT)}
        self._signers.keep([KeyReference(_uri(name), one.public_key) for name, one in found.items()])
        root = self.repository.root()
        for role in roles.ROLES:
            _check_named(role, found[role].public_key, root)

    def _rotate_assignment(self, public: Sequence[str]) -> None:
        """The new key is in force once the targets that name it are published."""
        if public:
            raise Invalid(
                "the assignment key is made by the controller, which signs with it",
                hint="leave the key out",
                code="trust.rotate",
            )
        (key,) = self._make_for(ASSIGNMENT)
        epoch = self._assigner.epoch + 1
        self.repository.release({ASSIGNMENT_KEY_TARGET: describe_key(epoch, key)})

    def _check_role(self, role: str, public: Sequence[str]) -> None:
        if role not in roles.ROLES:
            known = ", ".join((*roles.ROLES, ASSIGNMENT))
            raise Invalid(f"there is no role {role!r}", hint=f"there are {known}", code="trust.rotate")
        at_hand = self._signers.keyids & set(self.repository.root().roles[role].keyids)
        if not public and not at_hand:
            raise Invalid(
                f"the keys of {role!r} are not at hand here, so a new one must not lie here either",
                hint="make one where they lie: `fleet trust key FILE`, and give its .pub.json with --key",
                code="trust.rotate.offline",
            )

    def _make_for(self, role: str) -> list[SSlibKey]:
        """Make a key for ``role`` in the folder of this controller."""
        name = self.keys.free_name(role)
        key: SSlibKey = self.keys.signer(name, make=True).public_key
        self._signers.add(KeyReference(_uri(name), key))
        return [key]

    def _published(self) -> None:
        """Take up what is published: others read it from memory, without waiting."""
        released = self.repository.load_target(ASSIGNMENT_KEY_TARGET)
        self._assigner = open_assigner(released or b"", self._signers)
        authorities = self.repository.load_target(AUTHORITIES_TARGET)
        self._authorities = () if authorities is None else decode(Authorities, authorities).pem
        self._timestamp = self.repository.timestamp_json

    def _forget_old_keys(self) -> None:
        """Refer no longer to keys that stand nowhere: whoever destroys them does what is right."""
        needed = {self._assigner.keyid, *self.repository.named_keyids()}
        waiting = self.repository.load_staged_target(ASSIGNMENT_KEY_TARGET)
        if waiting is not None:
            needed.add(decode(AssignmentKey, waiting).keyid)
        self._signers.forget_others(needed)


def _uri(name: str) -> str:
    return f"{FILE_SCHEME}keys/{name}.pem"


def _check_named(role: str, key: Key, root: Root) -> None:
    if key.keyid not in root.roles[role].keyids:
        raise SettingsError(
            f"the key {role!r} is not the one that the release metadata names",
            hint="restore it from a backup; devices trust no other",
            code="trust.keys",
        )
