"""What time it is on a machine without a clock."""

import json
from pathlib import Path

import pytest

from fleet_agent import floor
from fleet_agent.floor import judge_now_ms, raise_floor


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | str]:
    """The boot that the module sees; tests move it."""
    now: dict[str, int | str] = {"id": "first", "ms": 1000}
    monkeypatch.setattr(floor, "_boot_id", lambda: now["id"])
    monkeypatch.setattr(floor, "_boot_ms", lambda: now["ms"])
    return now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "floor.json"


def test_without_a_floor_the_wall_clock_counts_and_without_both_it_is_1970(
    file: Path, boot: dict[str, int | str]
) -> None:
    assert judge_now_ms(file, 7) == 7
    assert judge_now_ms(file, None) == 0


def test_the_wall_clock_counts_unless_it_is_before_the_floor(file: Path, boot: dict[str, int | str]) -> None:
    raise_floor(file, 5000)
    assert judge_now_ms(file, None) == 5000
    assert judge_now_ms(file, 4999) == 5000, "a wall clock before what was seen signed is wrong"
    assert judge_now_ms(file, 5001) == 5001


def test_the_floor_grows_with_the_time_since_it_was_set(file: Path, boot: dict[str, int | str]) -> None:
    raise_floor(file, 5000)
    boot["ms"] = 1300
    assert judge_now_ms(file, None) == 5300
    assert judge_now_ms(file, 5299) == 5300


def test_an_issue_time_below_the_floor_of_now_changes_nothing(file: Path, boot: dict[str, int | str]) -> None:
    raise_floor(file, 5000)
    boot["ms"] = 1300
    raise_floor(file, 5200)
    assert judge_now_ms(file, None) == 5300
    raise_floor(file, 6000)
    assert judge_now_ms(file, None) == 6000
    boot["ms"] = 1400
    assert judge_now_ms(file, None) == 6100


def test_after_a_reboot_the_time_without_power_is_not_counted(file: Path, boot: dict[str, int | str]) -> None:
    raise_floor(file, 5000)
    boot |= {"id": "second", "ms": 900_000}
    assert judge_now_ms(file, None) == 5000


def test_a_boot_clock_that_stepped_back_does_not_lower_the_floor(
    file: Path, boot: dict[str, int | str]
) -> None:
    raise_floor(file, 5000)
    boot["ms"] = 10
    assert judge_now_ms(file, None) == 5000


def test_a_damaged_floor_is_none_and_is_written_anew(file: Path, boot: dict[str, int | str]) -> None:
    for damage in (b"", b"{", b'{"issued_ms":"x"}', b'{"issued_ms":1,"boot_id":"\xff"}'):
        file.write_bytes(damage)
        assert judge_now_ms(file, 3) == 3
    raise_floor(file, 5000)
    assert json.loads(file.read_bytes()) == {"issued_ms": 5000, "boot_id": "first", "boot_ms": 1000}


def test_the_kernel_names_the_boot_and_counts_it(file: Path) -> None:
    raise_floor(file, 5000)
    first = judge_now_ms(file, None)
    assert 5000 <= first <= judge_now_ms(file, None) < 5000 + 60_000
    assert (
        json.loads(file.read_bytes())["boot_id"]
        == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    )
