"""Verify a desired document: refresh the releases, open the envelope, verify the manifests."""

from functools import partial
from pathlib import Path

from fleet_agent.floor import judge_now_ms, raise_floor
from fleet_agent.trust.desired import check_desired, check_issued, check_manifest, open_envelope
from fleet_agent.trust.protocol import DesiredVerified, VerifyDesired
from fleet_agent.trust.release import Releases
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, AssignmentKey, manifest_target
from fleet_shared.limits import MANIFEST_BYTES
from fleet_shared.wire import decode


def verify_desired(request: VerifyDesired) -> DesiredVerified:
    """Raises `TrustError`. Refresh comes first, expiry is judged afterwards."""
    trust_dir = Path(request.trust_dir)
    floor = trust_dir / "floor.json"
    now_ms = judge_now_ms(floor, request.wall_ms)
    releases = Releases(trust_dir, request.metadata_url, request.targets_url, now_ms)
    releases.refresh()
    key = decode(AssignmentKey, releases.fetch_target(ASSIGNMENT_KEY_TARGET, MANIFEST_BYTES))
    payload = open_envelope(request.envelope, key)
    desired = check_desired(payload, request.device, key)
    check_issued(desired, request.wall_ms, now_ms)
    raise_floor(floor, desired.issued_ms)
    now_ms = max(now_ms, desired.issued_ms)
    expired = now_ms > desired.expires_ms
    manifests = {
        entry.manifest: check_manifest(
            entry, partial(releases.fetch_target, manifest_target(entry.manifest), MANIFEST_BYTES)
        )
        for entry in (() if expired else desired.run)
    }
    if not expired:
        releases.forget_others([ASSIGNMENT_KEY_TARGET, *map(manifest_target, manifests)])
    return DesiredVerified(desired=payload, manifests=manifests, expired=expired, now_ms=now_ms)
