"""Bring the releases up to date, and verify a desired document by them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fleet_agent.errors import TrustError
from fleet_agent.floor import DeviceTime, judge_now_ms, judge_time, raise_floor
from fleet_agent.orders import load_order, raise_order
from fleet_agent.trust.authorities import AUTHORITIES_BYTES_MAX, store_authorities
from fleet_agent.trust.desired import (
    check_desired,
    check_issued,
    check_manifest,
    check_order,
    is_ahead,
    open_envelope,
    past,
)
from fleet_agent.trust.fetching import Ask, ReleaseFetcher
from fleet_agent.trust.protocol import DesiredVerified, Refresh, Refreshed, Repository, VerifyDesired
from fleet_agent.trust.release import Releases
from fleet_agent.trust.report import note_identity, note_releases
from fleet_agent.trust.trouble import map_os_error
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, AUTHORITIES_TARGET, AssignmentKey, manifest_target
from fleet_shared.limits import MANIFEST_BYTES
from fleet_shared.wire import decode


@dataclass(frozen=True)
class Believed:
    """What holds after a refresh. ``time``: by which dates are judged."""

    releases: Releases
    key: AssignmentKey
    time: DeviceTime


def refresh(request: Refresh, ask: Ask | None = None) -> Refreshed:
    """Raises `TrustError`. What could be verified is kept, also when the rest cannot be fetched."""
    trust_dir, identity = Path(request.trust_dir), Path(request.identity_dir)
    bring_up_to_date(trust_dir, identity, request.repository, request.wall_ms, ask)
    return Refreshed(trust=note_identity(identity, trust_dir / "report.json"))


def verify_desired(request: VerifyDesired, ask: Ask | None = None) -> DesiredVerified:
    """Raises `TrustError`. Refresh comes first, expiry is judged afterwards."""
    trust_dir, identity = Path(request.trust_dir), Path(request.identity_dir)
    believed = bring_up_to_date(trust_dir, identity, request.repository, request.wall_ms, ask)
    releases, key, time = believed.releases, believed.key, believed.time
    payload = open_envelope(request.envelope, key)
    desired = check_desired(payload, request.device, key)
    check_issued(desired, time, releases.ends_ms)
    check_order(desired, load_order(trust_dir / "order.json"))
    raise_order(trust_dir / "order.json", desired.order)
    raise_floor(trust_dir / "floor.json", past(desired.issued_ms, time))
    now_ms = max(time.now_ms, desired.issued_ms)
    expired = now_ms > desired.expires_ms
    manifests = {
        entry.manifest: check_manifest(
            entry, partial(releases.fetch_target, manifest_target(entry.manifest), MANIFEST_BYTES)
        )
        for entry in (() if expired else desired.run)
    }
    if not expired:
        releases.forget_others([ASSIGNMENT_KEY_TARGET, AUTHORITIES_TARGET, *map(manifest_target, manifests)])
    report = note_identity(identity, trust_dir / "report.json")
    return DesiredVerified(desired=payload, manifests=manifests, expired=expired, now_ms=now_ms, trust=report)


def bring_up_to_date(
    trust_dir: Path, identity: Path, repository: Repository, wall_ms: int | None, ask: Ask | None
) -> Believed:
    """Refresh the metadata, raise the floor, take up the authorities and the assignment key."""
    floor = trust_dir / "floor.json"
    releases = open_releases(trust_dir, repository, judge_time(floor, wall_ms).now_ms, ask)
    releases.refresh(repository.news)
    time = judge_time(floor, wall_ms)
    if not is_ahead(releases.issued_ms, time, releases.ends_ms):
        raise_floor(floor, past(releases.issued_ms, time))
    released = releases.find_target(AUTHORITIES_TARGET, AUTHORITIES_BYTES_MAX)
    if released is not None:
        store_authorities(identity, released)
    key = decode(AssignmentKey, releases.fetch_target(ASSIGNMENT_KEY_TARGET, MANIFEST_BYTES))
    note_releases(
        trust_dir / "report.json",
        root_version=releases.root_version,
        key_epoch=key.key_epoch,
        ends_ms=releases.ends_ms,
    )
    # The wall clock of the question is some seconds old by now: what it was believed before, it is.
    return Believed(releases, key, DeviceTime(judge_now_ms(floor, wall_ms), time.wall_ms))


def open_releases(trust_dir: Path, repository: Repository, now_ms: int, ask: Ask | None) -> Releases:
    root = trust_dir / "root.json"
    try:
        pinned = root.read_bytes()
    except FileNotFoundError as exc:
        raise TrustError(
            f"the release root {root} cannot be used: {exc}",
            hint="enrol this device again",
            code="trust.root",
        ) from exc
    except OSError as exc:
        raise map_os_error(exc) from exc
    return Releases(
        pinned,
        trust_dir / "metadata",
        trust_dir / "targets",
        ReleaseFetcher(repository, ask),
        (repository.metadata_url, repository.targets_url),
        now_ms,
    )
