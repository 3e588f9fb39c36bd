"""The cache: whole entries or none, bounded, and never the reason for a build to fail."""

import os
from pathlib import Path

import pytest

from fleet_cloud.errors import SettingsError
from fleet_cloud.factory.cache import (
    LIMIT_BYTES,
    STALE_S,
    Cache,
    Kept,
    find_folder,
    find_limit,
    list_kept,
    prune,
)

FILES = {"model.keras": b"weights", "facts.json": b"{}"}


def key(number: int) -> str:
    return f"{number:064x}"


class Told:
    """A cache, and what it warns of."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.warnings: list[str] = []
        self.cache = Cache(folder, self.warnings.append, limit_bytes)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "build")


def test_what_is_kept_comes_back_and_nothing_else(told: Told) -> None:
    assert told.cache.load(key(1)) is None
    assert not told.cache.has(key(1))
    told.cache.keep(key(1), FILES, "digits: float, training")
    assert told.cache.load(key(1)) == FILES
    assert told.cache.has(key(1))
    assert told.cache.load(key(2)) is None
    assert not told.warnings


def test_an_entry_that_another_build_keeps_meanwhile_stays(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_late(path: Path) -> bytes:
        monkeypatch.undo()
        told.cache.keep(key(1), FILES)
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", come_late)
    assert told.cache.load(key(1)) is None
    assert told.cache.load(key(1)) == FILES
    assert not told.warnings


def test_a_folder_that_cannot_be_listed_ends_no_build(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: Path) -> list[Kept]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fleet_cloud.factory.cache.list_kept", refuse)
    told.cache.keep(key(1), FILES)
    told.cache.keep(key(2), FILES)
    (warning,) = told.warnings
    assert "results are not kept any more" in warning
    assert told.cache.load(key(1)) == FILES


def test_keeping_the_same_again_changes_nothing(told: Told, tmp_path: Path) -> None:
    told.cache.keep(key(1), FILES)
    told.cache.keep(key(1), FILES)
    assert [entry.key for entry in list_kept(tmp_path / "build")] == [key(1)]
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == [key(1)], (
        "nothing half done is left"
    )
    assert not told.warnings


@pytest.mark.parametrize("name", ["model.keras", "facts.json", "contents.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_entry_is_a_miss_with_a_warning_and_can_be_kept_again(
    told: Told, tmp_path: Path, name: str, damage: str
) -> None:
    told.cache.keep(key(1), FILES)
    file = tmp_path / "build" / key(1) / name
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    assert told.cache.load(key(1)) is None
    assert len(told.warnings) == 1
    assert key(1)[:12] in told.warnings[0]
    told.cache.keep(key(1), FILES)
    assert told.cache.load(key(1)) == FILES


def test_an_entry_that_cannot_be_understood_can_be_refused(told: Told) -> None:
    told.cache.keep(key(1), FILES)
    told.cache.refuse(key(1), "Keras does not know it")
    assert told.cache.load(key(1)) is None
    assert "Keras does not know it" in told.warnings[0]


def test_the_longest_unused_entries_go_first(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    told = Told(folder)
    for number in range(4):
        told.cache.keep(key(number), {"model": bytes(1000)})
        os.utime(folder / key(number), (number + 1.0, number + 1.0))
    told.cache.load(key(0))
    size = list_kept(folder)[0].size_bytes
    removed = prune(folder, 2 * size)
    assert [entry.key for entry in removed] == [key(1), key(2)]
    assert [entry.key for entry in list_kept(folder)] == [key(3), key(0)]
    assert not prune(folder, 2 * size), "at the limit nothing goes"


def test_a_new_entry_stays_even_if_it_alone_is_above_the_limit(tmp_path: Path) -> None:
    told = Told(tmp_path / "build", limit_bytes=10)
    told.cache.keep(key(1), {"model": bytes(1000)})
    told.cache.keep(key(2), {"model": bytes(1000)})
    assert [entry.key for entry in list_kept(tmp_path / "build")] == [key(2)]


def test_a_disk_that_refuses_is_told_once_and_ends_no_build(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("a file where the folder should be")
    told = Told(tmp_path / "build")
    told.cache.keep(key(1), FILES)
    told.cache.keep(key(2), FILES)
    assert told.cache.load(key(1)) is None
    (warning,) = told.warnings
    assert "results are not kept any more" in warning
    assert "the build goes on" in warning


def test_what_a_killed_build_left_half_done_goes_after_a_day(told: Told, tmp_path: Path) -> None:
    told.cache.keep(key(1), FILES)
    old, young = (tmp_path / "build" / name for name in (".begun-old", ".begun-young"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.keras").write_bytes(b"half")
    past = old.stat().st_mtime - STALE_S - 60
    os.utime(old, (past, past))
    prune(tmp_path / "build", LIMIT_BYTES)
    assert not old.exists()
    assert young.exists()
    assert [entry.key for entry in list_kept(tmp_path / "build")] == [key(1)]


def test_nothing_is_listed_where_nothing_is(tmp_path: Path) -> None:
    assert list_kept(tmp_path / "nowhere") == []
    assert prune(tmp_path / "nowhere", 0) == []


def test_labels_say_what_an_entry_is(told: Told, tmp_path: Path) -> None:
    told.cache.keep(key(1), FILES, "digits: int8, int8")
    told.cache.keep(key(2), FILES, "other")
    (tmp_path / "build" / key(2) / "contents.json").write_text("no JSON")
    assert {entry.key: entry.label for entry in list_kept(tmp_path / "build")} == {
        key(1): "digits: int8, int8",
        key(2): "damaged",
    }


def test_where_the_cache_is_and_how_large_it_may_be() -> None:
    assert find_folder({"FLEET_CACHE": "/data/cache"}) == Path("/data/cache/build")
    assert find_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/fleet/build")
    assert find_folder({}) == Path("~/.cache/fleet/build").expanduser()
    assert find_limit({}) == 5_000_000_000
    assert find_limit({"FLEET_CACHE_MAX_BYTES": "1000"}) == 1000
    for wrong in ("5GB", "-1", "1e9"):
        with pytest.raises(SettingsError, match="FLEET_CACHE_MAX_BYTES"):
            find_limit({"FLEET_CACHE_MAX_BYTES": wrong})
