"""Keys, authority and release repository in their folder: lost parts, old parts, limits."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

from fleet_cloud.adapters.trust import repository
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.errors import CloudError, SettingsError
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, TIMESTAMP_ISSUED_MS
from fleet_shared.names import digest_of
from tests.kit.release_client import ReleaseClient

KEYS = ("root", "targets", "snapshot", "timestamp", "assignment", "ca")


def release(trust: ControllerTrust, count: int) -> None:
    for number in range(count):
        manifest = f"manifest {number}".encode()
        trust.release({digest_of(manifest): manifest})


def expect_restore(folder: Path, code: str = "trust.keys") -> None:
    with pytest.raises(SettingsError) as caught:
        ControllerTrust(folder)
    assert caught.value.code == code
    assert "backup" in caught.value.hint


@pytest.mark.parametrize("name", KEYS)
def test_a_missing_key_is_never_made_anew(tmp_path: Path, name: str) -> None:
    ControllerTrust(tmp_path)
    (tmp_path / "keys" / f"{name}.pem").unlink()
    expect_restore(tmp_path)
    assert not (tmp_path / "keys" / f"{name}.pem").exists()


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_another_lab_is_refused(tmp_path: Path, name: str) -> None:
    ControllerTrust(tmp_path / "lab")
    ControllerTrust(tmp_path / "stranger")
    shutil.copy(tmp_path / "stranger" / "keys" / f"{name}.pem", tmp_path / "lab" / "keys")
    expect_restore(tmp_path / "lab")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "damage", "code"),
    [
        ("metadata/1.root.json", Path.unlink, "trust.metadata"),
        ("metadata/1.root.json", _empty, "trust.metadata"),
        ("metadata/timestamp.json", _empty, "trust.metadata"),
        ("ca-certificate.pem", _empty, "trust.keys"),
    ],
)
def test_damaged_documents_ask_for_a_backup(
    tmp_path: Path, name: str, damage: Callable[[Path], None], code: str
) -> None:
    ControllerTrust(tmp_path)
    damage(tmp_path / name)
    expect_restore(tmp_path, code)


def test_a_first_start_that_was_killed_goes_on(tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path)
    ca = trust.authority.ca_pem
    shutil.rmtree(tmp_path / "metadata")
    shutil.rmtree(tmp_path / "targets")
    (tmp_path / "keys" / "timestamp.pem").unlink()
    again = ControllerTrust(tmp_path)
    assert again.authority.ca_pem == ca
    assert ControllerTrust(tmp_path).repository.root_json == again.repository.root_json


def test_a_first_start_that_is_killed_at_any_instant_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of the files that it writes."""
    for instant in range(1, 100):
        folder, left = tmp_path / str(instant), [instant]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", partial(_sync_until, left, os.fsync))
            try:
                ControllerTrust(folder)
            except KeyboardInterrupt:
                pass
            else:
                break
        trust = ControllerTrust(folder)
        device = ReleaseClient(folder, tmp_path / f"device-{instant}", trust.repository.root_json)
        assert device.fetch(ASSIGNMENT_KEY_TARGET)
        assert not list((folder / "staged").iterdir())
    assert 10 < instant < 99


def _sync_until(left: list[int], sync: Callable[[int], None], handle: int) -> None:
    left[0] -= 1
    if left[0] == 0:
        raise KeyboardInterrupt
    sync(handle)


def test_a_timestamp_says_when_it_was_signed(tmp_path: Path) -> None:
    """TUF has its end only, and a device without a clock needs more."""
    before_ms = time.time_ns() // 1_000_000
    timestamp = Metadata[Timestamp].from_bytes(ControllerTrust(tmp_path).newest_timestamp())
    issued_ms = timestamp.signed.unrecognized_fields[TIMESTAMP_ISSUED_MS]
    assert before_ms <= issued_ms <= time.time_ns() // 1_000_000


def test_metadata_that_nobody_reads_any_more_is_removed(tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path)
    release(trust, 5)
    folder = tmp_path / "metadata"
    assert len(list(folder.glob("*.snapshot.json"))) > 5, "a client may be reading them"
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    manifest = b"one more"
    trust.release({digest_of(manifest): manifest})
    snapshots, targets = sorted(folder.glob("*.snapshot.json")), sorted(folder.glob("*.targets.json"))
    assert len(snapshots) == 2, "the newest, and the one it has only just superseded"
    assert len(targets) == 1, "the newest"
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json"))
    current = timestamp.signed.snapshot_meta.version
    assert (folder / f"{current}.snapshot.json") in snapshots
    assert (folder / "1.root.json").exists()
    release(ControllerTrust(tmp_path), 6)


def test_the_list_of_releases_stays_below_what_devices_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ControllerTrust(tmp_path)
    release(trust, 1)
    before = sorted((tmp_path / "metadata").iterdir())
    monkeypatch.setattr(repository, "TARGETS_BYTES_MAX", 1_500)
    with pytest.raises(CloudError) as caught:
        trust.release({digest_of(f"{n}".encode()): f"{n}".encode() for n in range(1000)})
    assert caught.value.code == "release.full"
    assert sorted((tmp_path / "metadata").iterdir()) == before
    ControllerTrust(tmp_path)
