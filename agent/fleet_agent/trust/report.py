"""What this device believes, noted in a file for whoever asks: the supervisor, ``status``, ``doctor``."""

from pathlib import Path

import msgspec

from fleet_agent.trust.authorities import digest, find_issuer, load_authorities
from fleet_agent.trust.certificate import begins_ms, expires_ms, load_certificate
from fleet_agent.trust_report import TrustNote, load_note, save_note
from fleet_shared.errors import FleetError
from fleet_shared.messages.reported import TrustReport
from fleet_shared.names import Digest


def note_identity(identity: Path, file: Path) -> TrustNote:
    """Take up what certificate and authorities are now; what cannot be read is not known."""
    report = load_note(file).report
    try:
        authorities = load_authorities(identity)
    except (OSError, ValueError):
        authorities = []
    report = msgspec.structs.replace(report, authorities=tuple(digest(one) for one in authorities))
    try:
        certificate = load_certificate(identity)
    except FleetError:
        report = msgspec.structs.replace(report, issuer=Digest(""), certificate_expires_ms=None)
        return _save(file, TrustNote(report=report))
    issuer = find_issuer(certificate, authorities)
    report = msgspec.structs.replace(
        report,
        issuer=Digest("") if issuer is None else digest(issuer),
        certificate_expires_ms=expires_ms(certificate),
    )
    return _save(file, TrustNote(report=report, certificate_begins_ms=begins_ms(certificate)))


def note_releases(file: Path, *, root_version: int, key_epoch: int, ends_ms: int) -> None:
    found = load_note(file)
    report: TrustReport = msgspec.structs.replace(
        found.report, root_version=root_version, key_epoch=key_epoch, metadata_expires_ms=ends_ms
    )
    _save(file, msgspec.structs.replace(found, report=report))


def _save(file: Path, note: TrustNote) -> TrustNote:
    save_note(file, note)
    return note
