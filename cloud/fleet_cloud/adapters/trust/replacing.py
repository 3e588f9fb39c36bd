"""Other keys for a role: the next root names them, and whoever holds the old ones agrees by signing it."""

from collections.abc import Callable, Sequence

from securesystemslib.signer import Key

from fleet_cloud.adapters.trust.layout import load_signed_root
from fleet_cloud.adapters.trust.repository import ReleaseRepository
from fleet_cloud.errors import Invalid, NotFound


def replace_role(
    repository: ReleaseRepository, role: str, keys: Sequence[Key], threshold: int | None
) -> None:
    """Let ``keys`` stand for ``role``, and nobody else. As many must sign as before, unless ``threshold``
    says otherwise; raises `Invalid` (``trust.rotate.threshold``) where they are fewer."""
    metadata = repository.next_root()
    root = load_signed_root(metadata)
    fresh = {key.keyid for key in keys}
    for keyid in [keyid for keyid in root.roles[role].keyids if keyid not in fresh]:
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(key, role)
    wanted = root.roles[role].threshold if threshold is None else threshold
    if not 1 <= wanted <= len(keys):
        raise Invalid(
            f"{wanted} of {len(keys)} keys cannot sign for {role!r}",
            hint="give at least as many keys as must sign, or say with --threshold how many must",
            code="trust.rotate.threshold",
        )
    root.roles[role].threshold = wanted
    repository.replace_keys(metadata)


def revoke_key(repository: ReleaseRepository, keyid: str, make: Callable[[str], Sequence[Key]]) -> None:
    """Take a key out of every role. A role that the controller signs for by itself gets a new one; raises
    `Invalid` (``trust.revoke.last``) where too few would be left, and `NotFound`."""
    metadata = repository.next_root()
    root = load_signed_root(metadata)
    named = [role for role, one in root.roles.items() if keyid in one.keyids]
    if not named:
        raise NotFound(
            f"no key {keyid!r} stands in any role",
            hint="fleet trust status lists them",
            code="trust.key.unknown",
        )
    at_hand = keyid in repository.signers.keyids
    for role in named:
        for key in make(role) if at_hand else ():
            root.add_key(key, role)
        root.revoke_key(keyid, role)
        if len(root.roles[role].keyids) < root.roles[role].threshold:
            raise Invalid(
                f"without this key, too few are left to sign for {role!r}",
                hint=f"give it others: fleet trust rotate {role} --key FILE.pub.json",
                code="trust.revoke.last",
            )
    repository.replace_keys(metadata)
