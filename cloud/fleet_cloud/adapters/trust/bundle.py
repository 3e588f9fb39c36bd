"""What is carried to the people who sign, and back: one file.

It holds what waits, what is published now, and the targets that are new, so that whoever signs can see what
it is about, without a network. What comes back counts only as signatures over exactly what waits.
"""

from typing import Any, ClassVar, Final

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import Delegations, Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from fleet_cloud.adapters.trust import roles
from fleet_cloud.adapters.trust.layout import load_signed_root, load_signed_targets
from fleet_cloud.adapters.trust.publishing import Documents
from fleet_cloud.adapters.trust.repository import ReleaseRepository
from fleet_cloud.adapters.trust.signers import is_called_by_its_value
from fleet_cloud.errors import Conflict, Invalid
from fleet_shared.limits import MIB
from fleet_shared.names import digest_of
from fleet_shared.wire import Document, decode, encode

_EXPORT_AGAIN: Final = "export it again, and sign that: fleet trust sign --export FILE"


class Bundle(Document, frozen=True, kw_only=True):
    """``staged`` and ``published``: metadata by role; ``targets``: the content of new targets by path."""

    LIMIT_BYTES: ClassVar[int] = 64 * MIB

    kind: str = "fleet-releases-to-sign"
    root: str
    staged: dict[str, str]
    published: dict[str, str]
    targets: dict[str, str]


def compose_bundle(repository: ReleaseRepository) -> Bundle:
    """Return all that waits; raise `Conflict` (``trust.sign.nothing``) if nothing does."""
    staged = repository.staged()
    if not staged:
        raise Conflict(
            "nothing waits to be signed",
            hint="fleet trust status says what ends when",
            code="trust.sign.nothing",
        )
    published = {role: repository.files.load(role) for role in staged}
    targets = {}
    for role, metadata in staged.items():
        if isinstance(metadata.signed, Targets):
            known = _listing(published[role])
            for path, file in metadata.signed.targets.items():
                if known.get(path) != file:
                    targets[path] = repository.files.load_target(path, file.hashes["sha256"]).decode()
    return Bundle(
        root=_text(repository.newest(Root.type)),
        staged={role: _text(metadata) for role, metadata in staged.items()},
        published={role: _text(metadata) for role, metadata in published.items() if metadata is not None},
        targets=targets,
    )


def read_metadata(text: str) -> Metadata[Any]:
    """Raises `Invalid` (``trust.sign.malformed``)."""
    try:
        return Metadata.from_bytes(text.encode())
    except DeserializationError as exc:
        raise Invalid(
            f"the file to sign does not parse: {exc}", hint=_EXPORT_AGAIN, code="trust.sign.malformed"
        ) from exc


def without_contents(raw: bytes) -> bytes:
    """Return the part of a signed file that is handed to the controller: it has the rest."""
    bundle = decode(Bundle, raw)
    return encode(Bundle(root=bundle.root, staged=bundle.staged, published={}, targets={}))


def read_staged(bundle: Bundle) -> Documents:
    """Return the documents to sign; raise `Invalid` unless the targets with them are theirs, and they are
    what Fleet makes: who signs is shown of them what differs there, and nothing else."""
    staged = {role: read_metadata(text) for role, text in bundle.staged.items()}
    for role, metadata in staged.items():
        _check_shape(role, metadata)
        for path, file in _listing(metadata).items():
            content = bundle.targets.get(path)
            if content is not None and digest_of(content.encode()) != file.hashes.get("sha256"):
                raise Invalid(
                    f"{path} is not the file that is to be signed",
                    hint=_EXPORT_AGAIN,
                    code="trust.sign.target",
                )
    return staged


def _check_shape(role: str, metadata: Metadata[Any]) -> None:
    """Refuse a document of another kind, keys under the ids of others, and delegations other than that of
    manifests to their bins: whom they name could release anything."""
    signed = metadata.signed
    good, keys = isinstance(signed, Root if role == Root.type else Targets), dict[str, Key]()
    if isinstance(signed, Root):
        keys = signed.keys
    elif isinstance(signed, Targets) and signed.delegations is not None:
        keys = signed.delegations.keys
        good = good and role == Targets.type and _is_to_bins(signed.delegations)
    if not good or not all(map(is_called_by_its_value, keys.values())):
        raise Invalid(
            f"the document {role[:40]!r} is none that Fleet makes: it was changed, to be signed unseen",
            hint="do not sign it; look after the controller that it comes from",
            code="trust.sign.shape",
        )


def _is_to_bins(delegations: Delegations) -> bool:
    bins = delegations.succinct_roles
    shape = None if bins is None else (bins.bit_length, bins.name_prefix)
    return not delegations.roles and shape == (roles.BIN_BITS, roles.BIN_PREFIX)


def find_signers(root: Root, staged: Documents) -> dict[str, set[str]]:
    """Return whose signatures each document asks for, by the published root and by the one that waits."""
    roots = [root]
    roots += [load_signed_root(staged[Root.type])] if Root.type in staged else []
    found = {}
    for role in staged:
        top = role if role in roles.ROLES else Targets.type
        found[role] = {keyid for root in roots for keyid in root.roles[top].keyids}
    return found


def take_signatures(repository: ReleaseRepository, bundle: Bundle) -> Documents:
    """Return what waits, with the signatures that came back; raise `Conflict` (``trust.sign.changed``) for
    documents that do not wait, and `Invalid` (``trust.sign.signature``) for signatures that are wrong."""
    staged = repository.staged()
    wanted = find_signers(repository.root(), staged)
    keys = _known_keys(repository, staged)
    taken = 0
    for role, text in bundle.staged.items():
        metadata = read_metadata(text)
        if role not in staged or metadata.signed_bytes != staged[role].signed_bytes:
            raise Conflict(
                f"what was signed for {role!r} is not what waits here",
                hint=_EXPORT_AGAIN,
                code="trust.sign.changed",
            )
        for keyid in metadata.signatures.keys() & wanted[role] - staged[role].signatures.keys():
            _check_signature(keys, keyid, role, metadata)
            staged[role].signatures[keyid] = metadata.signatures[keyid]
            taken += 1
    if not taken:
        raise Conflict(
            "the file has no signature that was missing",
            hint="sign it first: fleet trust sign FILE --key KEY",
            code="trust.sign.nothing",
        )
    return staged


def _known_keys(repository: ReleaseRepository, staged: Documents) -> dict[str, Any]:
    keys = dict(repository.root().keys)
    if Root.type in staged:
        keys |= load_signed_root(staged[Root.type]).keys
    return keys


def _check_signature(keys: dict[str, Any], keyid: str, role: str, metadata: Metadata[Any]) -> None:
    try:
        keys[keyid].verify_signature(metadata.signatures[keyid], metadata.signed_bytes)
    except (UnverifiedSignatureError, KeyError) as exc:
        raise Invalid(
            f"the signature of key {keyid[:12]} over {role!r} is wrong",
            hint="was the file changed on its way? sign it again",
            code="trust.sign.signature",
        ) from exc


def _listing(metadata: Metadata[Any] | None) -> dict[str, Any]:
    if metadata is None or not isinstance(metadata.signed, Targets):
        return {}
    return load_signed_targets(metadata).targets


def _text(metadata: Metadata[Any]) -> str:
    return metadata.to_bytes().decode()
