"""What The Update Framework promises, attack by attack, against a device that knows the repository already.

Each runs on the trust module here, and in the long tests in the process that the agent starts.
"""

import http.server
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.floor import load_floor_ms
from fleet_agent.trust import fetching
from fleet_shared.names import Digest
from tests.kit.device_edges import make_manifest
from tests.kit.releases import Releases, far, make_signer
from tests.kit.trusting import DAY_MS, TrustingDevice


@pytest.fixture
def releases() -> Iterator[Releases]:
    found = Releases()
    with found.serving():
        yield found


@pytest.fixture(params=["here", pytest.param("process", marks=pytest.mark.long)])
def device(tmp_path: Path, releases: Releases, request: pytest.FixtureRequest) -> TrustingDevice:
    """It has verified one model, and knows all that was released by then."""
    found = TrustingDevice(tmp_path / "device", releases, process=request.param == "process")
    found.manifest = releases.release_manifest(make_manifest("1.0.0"))
    found.accepts()
    return found


# -- the ten


def test_arbitrary_software(device: TrustingDevice, releases: Releases) -> None:
    """A manifest in place of the released one, and metadata that nobody signed."""
    other = releases.release_manifest(make_manifest("2.0.0"))
    for path in list(releases.files):
        if path.endswith(f"{other}.json"):
            releases.files[path] = make_manifest("3.0.0")
    entry = device.desired().run[0]
    refused = device.refuses("trust.manifest.digest", run=(_replace(entry, manifest=other, version="2.0.0"),))
    assert refused.retry, "a mirror lies, which says nothing of the order"
    releases.signers["targets"] = [make_signer(), make_signer()]
    releases.release("anything", b"x")
    assert device.refuses("trust.metadata.invalid").retry


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "root", "manifest"])
def test_endless_data(device: TrustingDevice, releases: Releases, name: str) -> None:
    sent = 0

    def pour(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b"x" * 65536)
                sent += 65536
        except OSError:
            return

    second = releases.release_manifest(make_manifest("2.0.0"))
    path = {
        "timestamp": "metadata/timestamp.json",
        "snapshot": f"metadata/{releases.snapshot.version}.snapshot.json",
        "targets": f"metadata/{releases.targets.version}.targets.json",
        "root": "metadata/2.root.json",
        "manifest": f"targets/manifests/{second}.{second}.json",
    }[name]
    releases.responses[path] = pour
    entry = _replace(device.desired().run[0], manifest=second, version="2.0.0")
    code = "trust.manifest.digest" if name == "manifest" else "trust.metadata.length"
    device.refuses(code, run=(entry,), generation=2)
    assert sent < 16 * 1024 * 1024
    del releases.responses[path]
    assert device.accepts(run=(entry,), generation=2).manifests


def test_extraneous_dependencies(device: TrustingDevice, releases: Releases) -> None:
    """A device takes the manifest that was assigned and nothing beside it, whatever is offered."""
    releases.release("manifests/extra.json", b"{}")
    releases.files["targets/extra"] = b"x"
    before = len(releases.asked)
    answer = device.accepts(generation=2)
    assert set(answer.manifests) == {device.manifest}
    assert not [path for path in releases.asked[before:] if "extra" in path]
    entry = device.desired().run[0]
    assert not device.refuses("trust.desired.entries", run=(entry, entry), generation=3).retry


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_fast_forward_and_its_recovery(device: TrustingDevice, releases: Releases, role: str) -> None:
    """Whoever had the key signed a version that nobody can exceed; new keys forget it."""
    if role == "timestamp":
        releases.timestamp.version = 2**31
        releases.publish_timestamp()
    else:
        releases.snapshot.version = 2**31
        releases.publish_snapshot()
    device.refreshes()
    releases.timestamp.version, releases.snapshot.version = 50, 50
    releases.publish_snapshot()
    assert device.refuses("trust.metadata.older").retry
    releases.rotate("timestamp")
    releases.rotate("snapshot")
    device.accepts(generation=2)


def test_indefinite_freeze(device: TrustingDevice, releases: Releases) -> None:
    """What is withheld ends by itself, with whatever clock the device has."""
    device.clock_days = 31
    assert device.refuses("trust.metadata.expired").retry
    device.clock_days = None
    device.accepts(generation=2)


def test_a_freeze_ends_for_a_device_without_a_clock_too(device: TrustingDevice, releases: Releases) -> None:
    """Its time is what was signed, and goes on with it."""
    device.clock_days = None
    releases.timestamp.expires = far(days=60)
    releases.timestamp_fields["issued_ms"] = int(time.time() * 1000 + 50 * DAY_MS)
    releases.publish()
    device.refreshes()
    assert load_floor_ms(device.folder / "trust" / "floor.json") > time.time() * 1000 + 49 * DAY_MS
    releases.timestamp.expires = far(days=40)
    releases.timestamp_fields.clear()
    releases.timestamp.unrecognized_fields.clear()
    releases.publish()
    assert device.refuses("trust.metadata.expired").retry


def test_malicious_mirror(device: TrustingDevice, releases: Releases) -> None:
    """It keeps back what the broker told of; the broker's word alone is worth nothing."""
    old = dict(releases.files)
    second = releases.release_manifest(make_manifest("2.0.0"))
    newest = dict(releases.files)
    device.news = newest["metadata/timestamp.json"]
    releases.files = old
    assert device.refuses("trust.metadata.older").retry
    device.news = b""
    assert device.refuses("trust.metadata.older").retry, "what was seen once is not forgotten"
    releases.files = newest
    entry = _replace(device.desired().run[0], manifest=second, version="2.0.0")
    assert device.accepts(run=(entry,), generation=2).manifests


@pytest.mark.parametrize("news", [b"", b"{}", b"\xff\x00", b"[" * 5000, b"9" * 16_000])
def test_a_malicious_broker_tells_nonsense(device: TrustingDevice, news: bytes) -> None:
    device.news = news
    device.accepts(generation=2)


def test_a_malicious_broker_tells_old_or_forged_news(device: TrustingDevice, releases: Releases) -> None:
    old = releases.files["metadata/timestamp.json"]
    releases.publish()
    forged = json.loads(releases.files["metadata/timestamp.json"])
    forged["signed"]["version"] = 2**31
    for news in (old, json.dumps(forged).encode()):
        device.news = news
        device.accepts(generation=2)
        assert device.refreshes().trust.report.metadata_expires_ms


def test_mix_and_match(device: TrustingDevice, releases: Releases) -> None:
    """Metadata of different times, each signed."""
    releases.release("a", b"a")
    first = dict(releases.files)
    releases.release("b", b"b")
    targets, snapshot = releases.targets.version, releases.snapshot.version
    releases.files[f"metadata/{targets}.targets.json"] = first[f"metadata/{targets - 1}.targets.json"]
    assert device.refuses("trust.metadata.older").retry
    releases.files[f"metadata/{snapshot}.snapshot.json"] = first[f"metadata/{snapshot - 1}.snapshot.json"]
    assert device.refuses("trust.metadata.older").retry


def test_rollback(device: TrustingDevice, releases: Releases) -> None:
    old = dict(releases.files)
    releases.release("a", b"a")
    device.refreshes()
    newest = releases.files
    releases.files = old
    assert device.refuses("trust.metadata.older").retry
    releases.files = newest
    releases.targets.version -= 2
    releases.publish()
    assert device.refuses("trust.metadata.older").retry, "an older list, in newer metadata"


@pytest.mark.parametrize("role", ["root", "targets"])
def test_key_compromise_under_the_threshold(device: TrustingDevice, releases: Releases, role: str) -> None:
    """One of two keys is stolen, and signs with one of the thief's own."""
    releases.signers[role] = [releases.signers[role][0], make_signer()]
    if role == "root":
        releases.publish_root()
    else:
        releases.release("anything", b"x")
    assert device.refuses("trust.metadata.invalid").retry


def test_key_compromise_over_the_threshold_ends_with_a_rotation(
    device: TrustingDevice, releases: Releases
) -> None:
    """Who has enough targets keys can release; not assign. New keys end it, and what the thief signed."""
    stolen = list(releases.signers["targets"])
    evil = releases.release_manifest(make_manifest("6.6.6"))
    entry = _replace(device.desired().run[0], manifest=evil, version="6.6.6")
    stranger = Releases()
    device.refuses("trust.desired.signature", stranger.sign_desired(device.desired(run=(entry,))))
    del releases.targets.targets[f"manifests/{evil}.json"]
    releases.rotate("targets")
    device.refuses("trust.manifest.unreleased", run=(entry,), generation=2)
    releases.signers["targets"] = stolen
    releases.release_manifest(make_manifest("6.6.6"))
    assert device.refuses("trust.metadata.invalid", run=(entry,), generation=2).retry


def test_wrong_software(device: TrustingDevice, releases: Releases) -> None:
    """Released, but another version than the one that was assigned."""
    second = releases.release_manifest(make_manifest("2.0.0"))
    device.refuses("trust.manifest.mismatch", run=(_replace(device.desired().run[0], manifest=second),))
    device.refuses(
        "trust.manifest.unreleased", run=(_replace(device.desired().run[0], manifest=Digest("e" * 64)),)
    )


@pytest.mark.parametrize("device", ["here"], indirect=True)
def test_slow_retrieval(device: TrustingDevice, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the numbers made small: a drip of a minute and a half would take as long."""
    monkeypatch.setattr(fetching, "HTTP_WITHIN_S", 0.5)

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            return

    releases.responses["metadata/timestamp.json"] = drip
    begin = time.monotonic()
    assert device.refuses("trust.metadata.unreachable").retry
    assert time.monotonic() - begin < 5
    device.ask = lambda path, _length_max: releases.files.get(path) or _none(path)
    device.accepts(generation=2)  # the other way is taken


# -- rotations and recovery


def test_all_keys_are_rotated_while_the_device_is_away(device: TrustingDevice, releases: Releases) -> None:
    for role in ("root", "targets", "snapshot", "timestamp", "root"):
        releases.rotate(role)
    assert device.accepts(generation=2).trust is not None
    assert device.refreshes().trust.report.root_version == 6


def test_three_months_offline_are_no_end(device: TrustingDevice, releases: Releases) -> None:
    """All that the device has is out of date; what the repository has is not."""
    device.clock_days = 100
    assert device.refuses("trust.metadata.expired").retry
    releases.timestamp.expires, releases.snapshot.expires = far(130), far(190)
    releases.publish()
    now_ms = int(time.time() * 1000 + 100 * DAY_MS)
    device.accepts(generation=2, issued_ms=now_ms, expires_ms=now_ms + DAY_MS)


def _replace(entry: object, **changes: object) -> object:
    import msgspec

    return msgspec.structs.replace(entry, **changes)  # type: ignore[type-var]


def _none(path: str) -> bytes:
    raise fetching.Asked(f"no {path}", retry=False)
