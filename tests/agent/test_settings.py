"""Settings: where they come from, what they may be, and what is said when they may not."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from fleet_agent.errors import SettingsError
from fleet_agent.settings import DESCRIBED, RANGES, Settings, load_settings, prefer_state


def load(
    tmp_path: Path,
    toml: str = "",
    flags: Mapping[str, object] = {},
    environment: Mapping[str, str] = {},
) -> Settings:
    (tmp_path / "agent.toml").write_text(toml)
    named = {f"FLEET_AGENT_{key.upper()}": value for key, value in environment.items()}
    return load_settings(tmp_path, named, flags)


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    toml = "http_port = 1\nthreads = 2\nsource_loop = false\n"
    found = load(tmp_path, toml, {"http_port": 3, "source": None}, {"threads": "4", "http_port": "5"})
    assert (found.http_port, found.threads, found.source_loop, found.source) == (3, 4, False, "")
    assert load_settings(tmp_path / "nothing", {}, {}) == Settings(tmp_path / "nothing")


def test_every_number_has_a_range_that_holds_its_default() -> None:
    numbers = {
        field.name: field.default
        for field in dataclasses.fields(Settings)
        if type(field.default) in (int, float)
    }
    assert set(numbers) == set(RANGES)
    assert all(RANGES[name].low <= value <= RANGES[name].high for name, value in numbers.items())  # type: ignore[operator]


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_good_and_beyond_is_refused(tmp_path: Path, name: str) -> None:
    allowed = RANGES[name]
    for good in (allowed.low, allowed.high):
        text = f"{good:.0f}" if good == int(good) else str(good)
        assert getattr(load(tmp_path, environment={name: text}), name) == good
    for bad in (f"{allowed.low - 1:.0f}", f"{allowed.high + 1:.0f}"):
        message = refused(tmp_path, environment={name: bad}).message
        assert name in message
        assert "environment" in message
        assert str(allowed) in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "x", "1e400", "0x10", "1,5"])
@pytest.mark.parametrize("name", RANGES)
def test_what_is_no_finite_number_is_refused(tmp_path: Path, name: str, value: str) -> None:
    assert refused(tmp_path, environment={name: value}).hint


@pytest.mark.parametrize(
    "line",
    [
        "http_port = inf", "http_port = 80.5", "http_port = true", "http_port = [80]", "threads = 0",
        "stats_interval_s = 0", "stats_interval_s = 0.0001", "sample_interval_s = nan",
        "source_loop = 'maybe'",
        "source = 5", "source = ['a']", "source_rate_hz = 0", "linger_s = -0.1",
    ],
)  # fmt: skip
def test_a_file_is_held_to_the_same(tmp_path: Path, line: str) -> None:
    message = refused(tmp_path, line).message
    assert line.split(" = ", maxsplit=1)[0] in message
    assert "agent.toml" in message


@pytest.mark.parametrize(("name", "value"), [("http_port", 70_000), ("threads", 0), ("source_rate_hz", 0.0)])
def test_flags_are_held_to_the_same(tmp_path: Path, name: str, value: float) -> None:
    assert "command line" in refused(tmp_path, flags={name: value}).message


def test_every_setting_is_described_in_a_sentence_of_its_own() -> None:
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "state"]
    assert [one.name for one in DESCRIBED] == names
    assert len({one.description for one in DESCRIBED}) == len(names)
    assert all(one.description.endswith(".") and "|" not in one.description for one in DESCRIBED)


def test_who_looks_at_a_machine_with_the_service_means_that_one(tmp_path: Path) -> None:
    """Without an agent of their own; else `fleet-agent status` would say "not enrolled" there."""
    own, system = tmp_path / "own", tmp_path / "system"
    assert prefer_state(own, system) == own
    system.mkdir()
    assert prefer_state(own, system) == system
    own.mkdir()
    assert prefer_state(own, system) == own


class Closed(type(Path())):  # type: ignore[misc]
    """A folder of another user."""

    def stat(self, *, follow_symlinks: bool = True) -> NoReturn:  # noqa: ARG002
        raise PermissionError(13, "Permission denied", str(self))


def test_a_home_folder_that_may_not_be_looked_at_has_no_state(tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.mkdir()
    assert prefer_state(Closed(tmp_path / "own"), system) == system
    assert prefer_state(tmp_path / "own", Closed(system)) == tmp_path / "own"


def test_unknown_keys_and_broken_files(tmp_path: Path) -> None:
    assert "http_port" in refused(tmp_path, "htp_port = 1").hint
    assert "agent.toml" in refused(tmp_path, "http_port =").message


def refused(
    tmp_path: Path,
    toml: str = "",
    flags: Mapping[str, object] = {},
    environment: Mapping[str, str] = {},
) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, toml, flags, environment)
    assert caught.value.code == "settings.invalid"
    return caught.value
