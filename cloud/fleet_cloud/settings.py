"""Settings of the controller: every default and unit in one place, and where each value came from.

Precedence: command line, then environment ``FLEET_*``, then the configuration file (TOML), then
the default.
"""

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import tomllib

from fleet_cloud.errors import SettingsError

PREFIX: Final = "FLEET_"
SECRETS: Final = frozenset({"api_token", "s3_secret_key"})
RESERVED: Final = frozenset({"config", "server", "token", "bench_data"})
"""``FLEET_*`` names that are not settings of the controller."""

MASK: Final = "********"


@dataclass(frozen=True, slots=True)
class Settings:
    """``data``: folder of keys, release metadata, and by default database and blobs.

    ``broker``: ``mqtt://user:password@host:port``; empty starts the embedded one on
    ``broker_port`` (0: any). ``broker_advertise``: ``host:port`` that devices use, if another.
    ``database``: SQLAlchemy URL; ``blobs``: folder, or ``s3://bucket/prefix?endpoint=..&region=..``.
    ``port`` 0 takes any free port.
    """

    data: str = ""
    host: str = "127.0.0.1"
    port: int = 8470
    broker: str = ""
    broker_port: int = 1883
    broker_advertise: str = ""
    database: str = ""
    blobs: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    api_token: str = ""
    topic_root: str = "fleet/v1"
    tick_interval_s: float = 1.0
    blob_max_bytes: int = 2 * 1024**3

    @property
    def data_dir(self) -> Path:
        return Path(self.data)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'fleet.db'}"


@dataclass(frozen=True, slots=True)
class Origin:
    """One value that is in force. ``shown`` has no secret in it."""

    name: str
    shown: str
    origin: str


def default_data() -> str:
    """Return where the controller's state lives: /var/lib for root, else below the home folder."""
    if os.geteuid() == 0:
        return "/var/lib/fleet"
    return str(Path.home() / ".local" / "share" / "fleet")


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None
) -> tuple[Settings, list[Origin]]:
    """Merge all origins; raise `SettingsError` naming origin, key and what was expected."""
    fields: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}
    fields["data"] = default_data()
    named = environment.get(f"{PREFIX}CONFIG")
    path = config or (Path(named) if named else None)
    values, origins = dict(fields), dict.fromkeys(fields, "default")
    for origin, given in (
        (str(path), {} if path is None else _load_file(path)),
        ("environment", _read_environment(environment)),
        ("command line", {key: value for key, value in flags.items() if value is not None}),
    ):
        for key, value in given.items():
            if key not in fields:
                raise _unknown(key, origin, list(fields))
            values[key] = _convert(value, fields[key], key, origin)
            origins[key] = f"{PREFIX}{key.upper()}" if origin == "environment" else origin
    settings = Settings(**values)
    _check(settings)
    return settings, [Origin(key, _show(key, values[key]), origins[key]) for key in fields]


def _check(settings: Settings) -> None:
    if not settings.api_token and not _is_loopback(settings.host):
        raise SettingsError(
            f"listening on {settings.host} without an operator token would let anybody in",
            hint="set FLEET_API_TOKEN, or listen on 127.0.0.1",
            code="settings.insecure",
        )
    if settings.broker and urlsplit(settings.broker).scheme != "mqtt":
        raise SettingsError(
            f"broker {mask_url(settings.broker)!r} is not an MQTT address",
            hint="mqtt://user:password@host:1883",
        )
    if settings.blobs.startswith("s3:"):
        parse_s3(settings)


@dataclass(frozen=True, slots=True)
class S3Settings:
    bucket: str
    prefix: str
    endpoint: str | None
    region: str


def parse_s3(settings: Settings) -> S3Settings:
    parts = urlsplit(settings.blobs)
    query = dict(parse_qsl(parts.query))
    unknown = set(query) - {"endpoint", "region"}
    if not parts.netloc or unknown:
        raise SettingsError(
            f"blobs {settings.blobs!r} is not an S3 address",
            hint="s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1",
        )
    prefix = parts.path.strip("/")
    return S3Settings(
        parts.netloc, f"{prefix}/" if prefix else "", query.get("endpoint"), query.get("region", "us-east-1")
    )


def mask_url(url: str) -> str:
    """Return ``url`` without its password."""
    password = urlsplit(url).password if "://" in url else None
    return url.replace(f":{password}@", f":{MASK}@") if password else url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show(key: str, value: object) -> str:
    if key in SECRETS:
        return MASK if value else ""
    return mask_url(str(value))


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    named = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(PREFIX) and not key.startswith(f"{PREFIX}AGENT_")
    }
    return {key: value for key, value in named.items() if key not in RESERVED}


def _load_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(
            f"the configuration {path} cannot be read: {exc}", hint="it must be TOML: key = value"
        ) from exc


def _convert(value: Any, default: Any, key: str, origin: str) -> Any:
    kind = type(default)
    try:
        converted = kind(value)
    except (ValueError, TypeError) as exc:
        raise _wrong(key, value, origin, default) from exc
    if kind in (int, float) and converted < 0:
        raise _wrong(key, value, origin, default)
    return converted


def _wrong(key: str, value: Any, origin: str, default: Any) -> SettingsError:
    return SettingsError(
        f"{key} = {value!r} ({origin}) is not a {type(default).__name__} of 0 or more"
        if not isinstance(default, str)
        else f"{key} = {value!r} ({origin}) is not a text",
        hint=f"for example {key} = {default!r}",
    )


def _unknown(key: str, origin: str, known: list[str]) -> SettingsError:
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return SettingsError(f"unknown setting {key!r} ({origin})", hint=hint)
