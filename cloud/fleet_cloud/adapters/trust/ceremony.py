"""What people do with their keys, on files and without a controller: make a key, begin a repository, sign."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from securesystemslib.signer import Key, Signer, SSlibKey
from tuf.api.metadata import Root, Targets

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.assignment import describe_key
from fleet_cloud.adapters.trust.keys import KeyFolder
from fleet_cloud.adapters.trust.repository import ReleaseRepository
from fleet_cloud.adapters.trust.signers import (
    FILE_SCHEME,
    HSM_SCHEME,
    KeyReference,
    Secret,
    Signers,
    parse_public,
    refer_to,
    sign_with,
    write_public,
)
from fleet_cloud.errors import Conflict, Invalid
from fleet_shared.durable import make_folder, write_durably
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET

ASSIGNMENT = "assignment"


@dataclass(frozen=True, slots=True)
class Holders:
    """Who signs for a role: private keys that are at hand now (``file:`` or ``hsm:``), public halves of those
    that are not, and how many must sign."""

    keys: Sequence[str]
    public: Sequence[str] = field(default=())
    threshold: int = 1


def make_key(file: Path, passphrase: str) -> str:
    """Write a new Ed25519 key, encrypted unless the passphrase is empty, and its public half beside it;
    return the key's id. Raises `Conflict` (``trust.key.exists``): a key is never overwritten."""
    public = public_file(file)
    for path in (file, public):
        if path.exists():
            raise Conflict(f"{path} is there already", hint="choose another name", code="trust.key.exists")
    key = Ed25519PrivateKey.generate()
    sealing = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    make_folder(file.parent, parents=True)
    write_durably(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing), mode=0o600)
    described = SSlibKey.from_crypto(key.public_key())
    write_durably(public, write_public(described).encode())
    return str(described.keyid)


def public_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.pub.json")


def write_token_public(uri: str, file: Path, secret: Secret) -> str:
    """Write the public half of a key in a PKCS#11 token; return the key's id."""
    reference, _ = refer_to(uri, Path(), secret)
    write_durably(file, write_public(reference.public).encode())
    return reference.keyid


def begin_repository(trust_dir: Path, root: Holders, targets: Holders, secret: Secret) -> None:
    """Make the release repository of a controller whose root and targets keys lie elsewhere. In its folder
    lie the keys that it uses by itself: those of snapshot, timestamp and assignments. Raises `Conflict`
    (``trust.init.exists``) and `Invalid` (``trust.init.threshold``)."""
    held = {Root.type: _Held.of(root, secret), Targets.type: _Held.of(targets, secret)}
    for role, holders in ((Root.type, root), (Targets.type, targets)):
        _check_enough(role, holders, held[role])
    trust_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the controller's data
    make_folder(trust_dir)
    signers, own = Signers(trust_dir), KeyFolder(trust_dir / "keys")
    repository = ReleaseRepository(trust_dir, signers)
    if repository.begun:
        raise Conflict(
            f"{trust_dir} has a release repository, whose devices trust its keys",
            hint="fleet trust rotate replaces keys; to begin anew, choose another folder: --data",
            code="trust.init.exists",
        )
    online = {name: own.signer(name, make=True) for name in (*roles.ONLINE_ROLES, ASSIGNMENT)}
    references = [
        KeyReference(f"{FILE_SCHEME}keys/{name}.pem", one.public_key) for name, one in online.items()
    ]
    signers.keep(references)
    keys = {role: one.keys for role, one in held.items()}
    keys |= {role: [online[role].public_key] for role in roles.ONLINE_ROLES}
    thresholds = {Root.type: root.threshold, Targets.type: targets.threshold}
    first = roles.first_root(keys, thresholds)
    for signer in held[Root.type].signers:
        sign_with(signer, first)
    released = {ASSIGNMENT_KEY_TARGET: describe_key(1, online[ASSIGNMENT].public_key)}
    repository.begin(first, released, bins=True, more=held[Targets.type].signers)


@dataclass(frozen=True, slots=True)
class _Held:
    signers: list[Signer]
    keys: list[Key]

    @classmethod
    def of(cls, holders: Holders, secret: Secret) -> "_Held":
        found = [refer_to(uri, Path(), secret) for uri in holders.keys]
        keys: dict[str, Key] = {reference.keyid: reference.public for reference, _ in found}
        for text in holders.public:
            key = parse_public(text)
            keys[key.keyid] = key
        return cls([signer for _, signer in found], list(keys.values()))


def _check_enough(role: str, holders: Holders, held: _Held) -> None:
    given = len({signer.public_key.keyid for signer in held.signers})
    if not 1 <= holders.threshold <= len(held.keys):
        raise Invalid(
            f"{holders.threshold} of {len(held.keys)} keys cannot sign for {role!r}",
            hint="give at least as many keys as must sign",
            code="trust.init.threshold",
        )
    if given < holders.threshold:
        raise Invalid(
            f"{given} of the {holders.threshold} keys that must sign for {role!r} are at hand",
            hint="whoever must sign brings the key to this first signing; later they can sign one by one",
            code="trust.init.threshold",
        )


def resolve_uri(text: str) -> str:
    """Return the reference of a key as a person names it: a file, or ``hsm:ID?label=TOKEN``."""
    return text if text.startswith((HSM_SCHEME, FILE_SCHEME)) else f"{FILE_SCHEME}{Path(text).absolute()}"
