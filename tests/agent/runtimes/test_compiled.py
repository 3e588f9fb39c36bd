"""The cache of compiled models: bounded, and never trusted."""

import os
import time
from pathlib import Path

import pytest

from fleet_agent.runtimes.compiled import CompiledCache, make_key


def write(content: bytes) -> "Writer":
    return Writer(content)


class Writer:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self, file: Path) -> None:
        file.write_bytes(self.content)


def fail(file: Path) -> None:
    file.write_bytes(b"half")
    raise OSError("no room")


def age(path: Path | None, seconds: int) -> None:
    assert path is not None
    os.utime(path, (seconds, seconds))


def test_a_key_is_of_the_model_and_of_every_word() -> None:
    keys = {make_key(b"m", ()), make_key(b"n", ()), make_key(b"m", ("a", "b")), make_key(b"m", ("ab",))}
    assert len(keys) == 4
    assert make_key(b"m", ("a", "b")) == make_key(b"m", ("a", "b"))


def test_what_was_stored_is_found_by_another_start(tmp_path: Path) -> None:
    stored = CompiledCache(tmp_path / "new" / "folder").store("k", write(b"library"))
    found = CompiledCache(tmp_path / "new" / "folder").find("k")
    assert found == stored
    assert found is not None
    assert found.read_bytes() == b"library"
    assert CompiledCache(tmp_path).find("other") is None
    assert CompiledCache(tmp_path / "missing").find("k") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "no digest", "no library", "digest cut"])
def test_what_is_damaged_is_gone_and_can_be_made_again(tmp_path: Path, damage: str) -> None:
    cache = CompiledCache(tmp_path)
    library = cache.store("k", write(b"library"))
    assert library is not None
    digest = library.with_suffix(".sha256")
    match damage:
        case "cut":
            library.write_bytes(b"libr")
        case "changed":
            library.write_bytes(b"Library")
        case "no digest":
            digest.unlink()
        case "no library":
            library.unlink()
        case _:
            digest.write_text(digest.read_text()[:10])
    assert cache.find("k") is None
    assert list(tmp_path.iterdir()) == []
    assert cache.store("k", write(b"library")) == cache.find("k")


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, entries_max=2)
    for number, key in enumerate(("a", "b")):
        age(cache.store(key, write(b"x")), 1000 + number)
    assert cache.find("a") is not None, "now it was used after b"
    cache.store("c", write(b"x"))
    assert [key for key in "abc" if cache.find(key)] == ["a", "c"]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_newest_stays_however_large(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, bytes_max=10)
    age(cache.store("a", write(b"12345")), 1000)
    cache.store("b", write(b"x" * 100))
    assert [key for key in "ab" if cache.find(key)] == ["b"]


def test_a_full_disk_costs_the_entry_only(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path)
    assert cache.store("k", fail) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    assert CompiledCache(tmp_path / "file").store("k", write(b"x")) is None


def test_what_a_killed_compiler_left_behind_goes_with_the_next_one(tmp_path: Path) -> None:
    for name, seconds in ((".making-old", 1000), (".making-new", int(time.time()))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.so").write_bytes(b"x")
        age(tmp_path / name, seconds)
    CompiledCache(tmp_path).store("k", write(b"library"))
    assert {path.name for path in tmp_path.iterdir()} == {".making-new", "k.so", "k.sha256"}
