"""Settings of the agent: every default and unit in one place.

Precedence: command line, then environment ``FLEET_AGENT_*``, then ``agent.toml`` in the state
folder, then the default.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fleet_agent.errors import SettingsError

ENVIRONMENT_PREFIX: Final = "FLEET_AGENT_"
_BOOLEANS: Final = MappingProxyType({"true": True, "false": False, "1": True, "0": False})


@dataclass(frozen=True)
class Range:
    """What a number may be, both ends included."""

    low: float
    high: float
    unit: str

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Settings:
    """``http_port``: inference on loopback, 0 takes a free port. ``source``: samples that are
    inferred at ``source_rate_hz``: a folder or archive of images, an ``.npz``, or ``camera:0``;
    empty: none. ``sample_interval_s``: how often the machine is read, ``stats_interval_s``: the
    model. ``linger_s``: how long an old worker waits for open connections. ``disk_margin_bytes``:
    what must stay free after a download. ``runtimes``: which may be used, in order of preference,
    separated by commas; empty: all that work.

    The worker: ``worker_memory_bytes_max`` bounds its resident memory (0: three quarters of the
    machine's), ``worker_growth_bytes_max`` its steady rise since it was warm, seen over several windows
    of ``worker_growth_window_s``; ``worker_hang_s``: how long one inference may take,
    ``worker_ready_s``: loading, warming up and the self-test; ``worker_restarts``: so many in a row come
    quickly, later ones each ``worker_slow_restart_s``. ``worker_nice`` is added to its priority (more is
    less), ``worker_cpus``: how many processors it may use (0: all).

    Bounds: ``memory_margin_bytes`` must stay free beside a second worker; ``spare_slots_bytes``: what
    older models may take beside the active and the previous one. ``retry_ceiling_s``: the longest wait
    between two tries. ``outbox_rows``, ``outbox_bytes``, ``outbox_days``: what waits for the controller at
    most, samples thinned out first. ``log_bytes``: the size of a log file in the state folder,
    ``log_files`` how many there are; 0: none."""

    state: Path
    http_port: int = 8080
    threads: int = 1
    source: str = ""
    source_rate_hz: float = 10.0
    source_loop: bool = True
    sample_interval_s: float = 10.0
    stats_interval_s: float = 10.0
    linger_s: float = 5.0
    disk_margin_bytes: int = 16 * 1024 * 1024
    worker_memory_bytes_max: int = 0
    worker_growth_bytes_max: int = 128 * 1024 * 1024
    worker_growth_window_s: float = 60.0
    worker_hang_s: float = 60.0
    worker_ready_s: float = 180.0
    worker_restarts: int = 10
    worker_slow_restart_s: float = 600.0
    worker_nice: int = 5
    worker_cpus: int = 0
    runtimes: str = ""
    memory_margin_bytes: int = 16 * 1024 * 1024
    spare_slots_bytes: int = 0
    retry_ceiling_s: float = 60.0
    outbox_rows: int = 200_000
    outbox_bytes: int = 64 * 1024 * 1024
    outbox_days: float = 30.0
    log_bytes: int = 1024 * 1024
    log_files: int = 3


RANGES: Final = MappingProxyType(
    {
        "http_port": Range(0, 65_535, ""),
        "threads": Range(1, 256, "threads"),
        "source_rate_hz": Range(0.001, 10_000, "samples a second"),
        "sample_interval_s": Range(0.1, 86_400, "seconds"),
        "stats_interval_s": Range(0.1, 3_600, "seconds"),
        "linger_s": Range(0, 600, "seconds"),
        "disk_margin_bytes": Range(0, 2**50, "bytes"),
        "worker_memory_bytes_max": Range(0, 2**50, "bytes"),
        "worker_growth_bytes_max": Range(1024 * 1024, 2**50, "bytes"),
        "worker_growth_window_s": Range(0.5, 86_400, "seconds"),
        "worker_hang_s": Range(0.5, 86_400, "seconds"),
        "worker_ready_s": Range(1, 1_800, "seconds"),
        "worker_restarts": Range(0, 1_000, "restarts"),
        "worker_slow_restart_s": Range(1, 86_400, "seconds"),
        "worker_nice": Range(0, 19, ""),
        "worker_cpus": Range(0, 1_024, "processors"),
        "memory_margin_bytes": Range(0, 2**50, "bytes"),
        "spare_slots_bytes": Range(0, 2**50, "bytes"),
        "retry_ceiling_s": Range(0.1, 3_600, "seconds"),
        "outbox_rows": Range(1000, 10_000_000, "rows"),
        "outbox_bytes": Range(2**20, 2**40, "bytes"),
        "outbox_days": Range(0.01, 3_650, "days"),
        "log_bytes": Range(65_536, 2**30, "bytes"),
        "log_files": Range(0, 100, "files"),
    }
)
"""One for each setting that is a number: below, telemetry floods the device or nothing runs."""


SYSTEM_STATE: Final = Path("/var/lib/fleet-agent")
"""The state of the service; the home of its user."""


def default_state() -> Path:
    """Return where the state lives: /var/lib for root and the service's user, else below the home folder."""
    if os.geteuid() == 0 or os.environ.get("HOME") == str(SYSTEM_STATE):
        return SYSTEM_STATE
    return Path.home() / ".local" / "state" / "fleet-agent"


def load_settings(state: Path, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Merge all origins; raise `SettingsError` naming the origin, the key and what was expected."""
    fields = {field.name: field for field in dataclasses.fields(Settings) if field.name != "state"}
    merged: dict[str, Any] = {}
    for origin, values in (
        (str(state / "agent.toml"), _load_file(state / "agent.toml")),
        ("environment", _read_environment(environment)),
        ("command line", {key: value for key, value in flags.items() if value is not None}),
    ):
        for key, value in values.items():
            if key not in fields:
                raise _unknown(key, origin, list(fields))
            merged[key] = _convert(value, fields[key].default, key, origin)
    return Settings(state=state, **merged)


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    reserved = {"state", "token", "log"}
    named = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    return {key: value for key, value in named.items() if key not in reserved}


def _load_file(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except PermissionError as exc:
        raise SettingsError(
            f"{path} may not be read by this user",
            hint="run it as root or as the user of the agent: sudo fleet-agent ...",
            code="agent.permission",
        ) from exc
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}", hint="it must be TOML: key = value") from exc
    return document


def _convert(value: Any, default: Any, key: str, origin: str) -> Any:
    """Text of the environment, or a value of TOML or of the command line, as the setting's type."""
    kind = type(default)
    try:
        if kind is bool:
            return _BOOLEANS[str(value).lower()]
        if kind is str:
            return _check_text(value)
        return _convert_number(value, kind, RANGES[key])
    except (ValueError, TypeError, KeyError, OverflowError) as exc:
        raise SettingsError(
            f"{key} = {value!r} ({origin}) is not {_expected(kind, key)}",
            hint=f"for example {key} = {_example(default)}",
        ) from exc


def _convert_number(value: Any, kind: type, allowed: Range) -> float | int:
    """Raises `ValueError`, `TypeError` or `OverflowError`."""
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    number: float | int = kind(value)
    if isinstance(value, float) and number != value:
        raise ValueError("a part would be lost")
    if not (math.isfinite(number) and allowed.low <= number <= allowed.high):
        raise ValueError("outside of the range")
    return number


def _check_text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("no text")
    return value


def _expected(kind: type, key: str) -> str:
    words = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}
    return words[kind] + (f" from {RANGES[key]}" if key in RANGES else "")


def _example(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else repr(default)


def _unknown(key: str, origin: str, known: list[str]) -> SettingsError:
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return SettingsError(f"unknown setting {key!r} ({origin})", hint=hint)
