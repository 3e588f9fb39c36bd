"""Settings of the agent: every default and unit in one place.

Precedence: command line, then environment ``FLEET_AGENT_*``, then ``agent.toml`` in the state
folder, then the default.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from fleet_agent.errors import SettingsError
from fleet_shared.limits import MIB

T = TypeVar("T")

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


_DESCRIPTION: Final = "description"
_RANGE: Final = "range"


def _setting(default: T, description: str, allowed: Range | None = None) -> T:
    """Return a field that says what it is; ``allowed``: what a number may be."""
    return field(default=default, metadata={_DESCRIPTION: description, _RANGE: allowed})


@dataclass(frozen=True)
class Settings:
    """Each with its default, what it means, and for a number what it may be. ``docs/settings.md`` is made of
    this."""

    state: Path
    """The folder of the agent's state; it holds ``agent.toml``, so it cannot stand in there."""
    http_port: int = _setting(
        8080,
        "Port for inference on loopback; 0 takes a free one.",
        Range(0, 65_535, ""),
    )
    threads: int = _setting(
        1,
        "Threads of the interpreter, where no benchmark chose another number.",
        Range(1, 256, "threads"),
    )
    source: str = _setting(
        "",
        "Samples to infer: a folder or archive of images, an `.npz`, or `camera:0`; empty: none.",
    )
    source_rate_hz: float = _setting(
        10.0,
        "How many samples of the source are inferred.",
        Range(0.001, 10_000, "samples a second"),
    )
    source_loop: bool = _setting(
        True,
        "Whether a source that is at its end begins again.",
    )
    sample_interval_s: float = _setting(
        10.0,
        "How often the machine is read.",
        Range(0.1, 86_400, "seconds"),
    )
    stats_interval_s: float = _setting(
        10.0,
        "How often the worker tells what it measured of the model.",
        Range(0.1, 3_600, "seconds"),
    )
    linger_s: float = _setting(
        5.0,
        "How long an old worker waits for open connections.",
        Range(0, 600, "seconds"),
    )
    disk_margin_bytes: int = _setting(
        16 * MIB,
        "What must stay free on the disk after a download.",
        Range(0, 2**50, "bytes"),
    )
    worker_memory_bytes_max: int = _setting(
        0,
        "Bound of the worker's resident memory; 0: three quarters of the machine's.",
        Range(0, 2**50, "bytes"),
    )
    worker_growth_bytes_max: int = _setting(
        128 * MIB,
        "Bound of the worker's steady rise in memory since it was warm, seen over several windows.",
        Range(MIB, 2**50, "bytes"),
    )
    worker_growth_window_s: float = _setting(
        60.0,
        "The window in which the rise of `worker_growth_bytes_max` is measured.",
        Range(0.5, 86_400, "seconds"),
    )
    worker_hang_s: float = _setting(
        60.0,
        "How long one inference may take before the worker counts as hung. An idle one may say nothing "
        "for half as long, and at least for 30 seconds.",
        Range(0.5, 86_400, "seconds"),
    )
    worker_ready_s: float = _setting(
        180.0,
        "How long a new worker may load, warm up and test itself.",
        Range(1, 1_800, "seconds"),
    )
    worker_restarts: int = _setting(
        10,
        "So many restarts of the worker in a row come quickly.",
        Range(0, 1_000, "restarts"),
    )
    worker_slow_restart_s: float = _setting(
        600.0,
        "The time between restarts of the worker after those of `worker_restarts`.",
        Range(1, 86_400, "seconds"),
    )
    worker_nice: int = _setting(
        5,
        "Added to the worker's niceness: more is a lower priority.",
        Range(0, 19, ""),
    )
    worker_cpus: int = _setting(
        0,
        "How many processors the worker may use; 0: all.",
        Range(0, 1_024, "processors"),
    )
    runtimes: str = _setting(
        "",
        "Which runtimes may be used, in order of preference, separated by commas; empty: all that work.",
    )
    memory_margin_bytes: int = _setting(
        16 * MIB,
        "What must stay free of the memory beside a second worker.",
        Range(0, 2**50, "bytes"),
    )
    spare_slots_bytes: int = _setting(
        0,
        "What older models may take of the disk beside the active and the previous one.",
        Range(0, 2**50, "bytes"),
    )
    retry_ceiling_s: float = _setting(
        60.0,
        "The longest wait between two tries to reach the controller, the broker or a download.",
        Range(0.1, 3_600, "seconds"),
    )
    transfers: str = _setting(
        "auto",
        "How models come: `http`, `mqtt` (in parts over the broker), or `auto`: HTTP, and the broker while no"
        " server answers there. Every way counts against the byte budget of a push.",
    )
    outbox_rows: int = _setting(
        200_000,
        "How many rows of telemetry wait for the controller at most; samples are thinned out first.",
        Range(1000, 10_000_000, "rows"),
    )
    outbox_bytes: int = _setting(
        64 * MIB,
        "How large the rows that wait are together at most.",
        Range(2**20, 2**40, "bytes"),
    )
    outbox_days: float = _setting(
        30.0,
        "How long a row of telemetry waits at most.",
        Range(0.01, 3_650, "days"),
    )
    log_bytes: int = _setting(
        1 * MIB,
        "The size of one log file in the state folder.",
        Range(65_536, 2**30, "bytes"),
    )
    log_files: int = _setting(
        3,
        "How many log files there are; 0: none.",
        Range(0, 100, "files"),
    )


@dataclass(frozen=True)
class Described:
    """One setting as a person looks it up. ``allowed``: for a number."""

    name: str
    default: Any
    description: str
    allowed: Range | None


DESCRIBED: Final = tuple(
    Described(one.name, one.default, one.metadata[_DESCRIPTION], one.metadata[_RANGE])
    for one in dataclasses.fields(Settings)
    if one.metadata
)

RANGES: Final = MappingProxyType({one.name: one.allowed for one in DESCRIBED if one.allowed is not None})
"""One for each setting that is a number: below, telemetry floods the device or nothing runs."""


SYSTEM_STATE: Final = Path("/var/lib/fleet-agent")
"""The state of the service; the home of its user."""


def default_state() -> Path:
    """Return where the state lives: /var/lib for root and the service's user, else below the home folder.

    Whoever has none there and looks at a machine with the service means that one.
    """
    if os.geteuid() == 0 or os.environ.get("HOME") == str(SYSTEM_STATE):
        return SYSTEM_STATE
    return prefer_state(Path.home() / ".local" / "state" / "fleet-agent", SYSTEM_STATE)


def prefer_state(own: Path, system: Path) -> Path:
    return system if _is_there(system) and not _is_there(own) else own


def _is_there(folder: Path) -> bool:
    """What may not be looked at (a service's home folder may be another user's) is not there."""
    try:
        return folder.is_dir()
    except OSError:
        return False


def load_settings(state: Path, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Merge all origins; raise `SettingsError` naming the origin, the key and what was expected."""
    defaults = {one.name: one.default for one in DESCRIBED}
    merged: dict[str, Any] = {}
    for origin, values in (
        (str(state / "agent.toml"), _load_file(state / "agent.toml")),
        ("environment", _read_environment(environment)),
        ("command line", {key: value for key, value in flags.items() if value is not None}),
    ):
        for key, value in values.items():
            if key not in defaults:
                raise _unknown(key, origin, list(defaults))
            merged[key] = _convert(value, defaults[key], key, origin)
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
