"""Settings of the agent: every default and unit in one place.

Precedence: command line, then environment ``FLEET_AGENT_*``, then ``agent.toml`` in the state
folder, then the default.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from fleet_agent.errors import SettingsError

ENVIRONMENT_PREFIX: Final = "FLEET_AGENT_"


@dataclass(frozen=True)
class Settings:
    """``http_port``: inference on loopback, 0 takes a free port. ``source``: samples that are
    replayed, at ``source_rate_hz``; empty: none. ``sample_interval_s``: how often the machine and
    the model are read. ``linger_s``: how long an old worker waits for open connections.
    ``disk_margin_bytes``: what must stay free after a download."""

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


def default_state() -> Path:
    """Return where the state lives: /var/lib for root, else below the home folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/fleet-agent")
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
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}", hint="it must be TOML: key = value") from exc
    return document


def _convert(value: Any, default: Any, key: str, origin: str) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        converted = kind(value)
    except (ValueError, TypeError, KeyError) as exc:
        raise SettingsError(
            f"{key} = {value!r} ({origin}) is not a {kind.__name__}", hint=f"for example {key} = {default!r}"
        ) from exc
    if kind in (int, float) and (converted < 0 or (key.endswith("_hz") and converted == 0)):
        raise SettingsError(f"{key} = {value!r} ({origin}) is too small", hint=f"for example {default!r}")
    return converted


def _unknown(key: str, origin: str, known: list[str]) -> SettingsError:
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return SettingsError(f"unknown setting {key!r} ({origin})", hint=hint)
