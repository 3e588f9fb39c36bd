"""Settings of the controller: every default and unit in one place, and where each value came from.

Precedence: command line, then environment ``FLEET_*``, then the configuration file (TOML), then
the default.
"""

import dataclasses
import ipaddress
import logging
import math
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import tomllib

from fleet_cloud.addresses import (
    PORT_MAX,
    check_database,
    check_http,
    is_loopback,
    is_s3,
    parse_advertised_broker,
    parse_broker,
    parse_hosts,
    parse_s3,
)
from fleet_cloud.errors import SettingsError
from fleet_cloud.local import default_data
from fleet_cloud.masking import MASK, mask_url
from fleet_shared.topics import Topics

log = logging.getLogger(__name__)

PREFIX: Final = "FLEET_"
ROLES: Final = ("viewer", "operator", "admin")
SECRETS: Final = frozenset({"api_token", "s3_secret_key"})
BROKER_ACCESS: Final = ("none", "dynsec")
RESERVED: Final = frozenset(
    {
        "config",
        "server",
        "token",
        "context",
        "ca_file",
        "bench_data",
        "trust_passphrase",
        "trust_passphrase_file",
        "trust_pin",
    }
)
"""``FLEET_*`` names that are not settings of the controller."""


class TlsMode(StrEnum):
    OWN = "own"
    GIVEN = "given"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """``data``: folder of keys, release metadata, and by default database and blobs.

    ``broker``: ``mqtts://host:port``, where both sides show certificates, or
    ``mqtt://user:password@host:port``; empty starts the embedded one on ``broker_host`` and
    ``broker_port`` (0: any).
    ``broker_advertise``: what devices use, if another: ``host:port``, or ``mqtt://user:password@host:port``
    with a user of their own.
    ``broker_access``: ``none``, or ``dynsec`` for a Mosquitto that `fleet broker config` has set up: devices
    are let in and revoked there. ``broker_files``: its folder, where the controller keeps its TLS files up
    to date; ``broker_reload``: a command that makes it read them again, such as
    ``systemctl reload mosquitto``.
    ``database``: SQLAlchemy URL; ``blobs``: folder, or ``s3://bucket/prefix?endpoint=..&region=..``.
    ``tls_names``: further names and addresses by which this machine is reached, between commas: they are
    in the certificates of its servers.
    ``s3_advertise``: the endpoint by which devices reach the bucket, if another.
    ``port`` 0 takes any free port.

    ``tls``: ``own`` (HTTPS with a certificate of the controller's own authority), ``given`` (with
    ``tls_certificate`` and ``tls_key``, PEM files), ``off``, or ``auto``: ``given`` where files are named,
    ``off`` on loopback, else ``own``.
    ``api_token``: a token of an admin; one in the data folder is made anyway.
    ``oidc_issuer`` and ``oidc_audience``: bearer tokens of that OpenID provider count, with the roles that
    ``oidc_roles`` gives to what its claim ``oidc_role_claim`` lists: ``fleet-admins=admin,staff=viewer``;
    ``oidc_name_claim`` names the person.
    ``rate_token_per_s``: requests of one token, ``rate_address_per_s``: of one address without a token; ten
    times as many at once; 0: no limit. ``trusted_proxies``: addresses and networks whose X-Forwarded-For
    is believed, with commas between them.
    """

    data: str = ""
    host: str = "127.0.0.1"
    port: int = 8470
    broker: str = ""
    broker_host: str = "127.0.0.1"
    broker_port: int = 8883
    broker_advertise: str = ""
    broker_access: str = "none"
    broker_files: str = ""
    broker_reload: str = ""
    database: str = ""
    blobs: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_advertise: str = ""
    api_token: str = ""
    tls_names: str = ""
    topic_root: str = "fleet/v1"
    tick_interval_s: float = 1.0
    blob_max_bytes: int = 2 * 1024**3
    build_lease_s: float = 60.0
    tls: str = "auto"
    tls_certificate: str = ""
    tls_key: str = ""
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_role_claim: str = "groups"
    oidc_name_claim: str = "sub"
    oidc_roles: str = ""
    rate_token_per_s: float = 100.0
    rate_address_per_s: float = 100.0
    trusted_proxies: str = ""

    @property
    def data_dir(self) -> Path:
        return Path(self.data)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'fleet.db'}"

    @property
    def tls_mode(self) -> TlsMode:
        """What ``tls`` comes to."""
        if self.tls != "auto":
            return TlsMode(self.tls)
        if self.tls_certificate:
            return TlsMode.GIVEN
        return TlsMode.OFF if is_loopback(self.host) else TlsMode.OWN

    @property
    def roles_by_group(self) -> dict[str, str]:
        return dict(_split_role(pair) for pair in split_list(self.oidc_roles))

    @property
    def proxy_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [ipaddress.ip_network(proxy, strict=False) for proxy in split_list(self.trusted_proxies)]

    @property
    def blobs_place(self) -> str:
        """S3 address, or folder (below ``data`` unless absolute)."""
        return self.blobs if is_s3(self.blobs) else str(self.data_dir / (self.blobs or "blobs"))


@dataclass(frozen=True, slots=True)
class Origin:
    """One value that is in force. ``shown`` has no secret in it."""

    name: str
    shown: str
    origin: str


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
        ("environment", _read_environment(environment, fields)),
        ("command line", {key: value for key, value in flags.items() if value is not None}),
    ):
        for key, value in given.items():
            if key not in fields:
                raise _unknown(key, origin, list(fields))
            values[key] = _convert(value, fields[key], key, origin)
            origins[key] = f"{PREFIX}{key.upper()}" if origin == "environment" else origin
    settings = Settings(**values)
    _check(settings)
    return settings, [Origin(key, _show(key, settings), origins[key]) for key in fields]


def _check(settings: Settings) -> None:
    for name, port in (("port", settings.port), ("broker_port", settings.broker_port)):
        if port > PORT_MAX:
            raise SettingsError(f"{name} = {port} is not a port", hint=f"use 0 to {PORT_MAX}; 0: any")
    if not 1 <= settings.build_lease_s < math.inf:
        raise SettingsError(
            f"build_lease_s = {settings.build_lease_s} is no time to wait for a silent worker",
            hint="for example 60",
        )
    if not 0 < settings.tick_interval_s < math.inf:
        raise SettingsError(
            f"tick_interval_s = {settings.tick_interval_s} is not a time", hint="for example 1.0"
        )
    _check_token(settings)
    _check_tls(settings)
    _check_people(settings)
    Topics(settings.topic_root)
    _check_addresses(settings)


def _check_token(settings: Settings) -> None:
    if not is_token(settings.api_token):
        raise SettingsError(
            "the operator token has a character that is not printable ASCII, or a space",
            hint="is there a line end in it? FLEET_API_TOKEN",
            code="api.token",
        )


def _check_tls(settings: Settings) -> None:
    known = ["auto", *TlsMode]
    if settings.tls not in known:
        raise SettingsError(f"tls = {settings.tls!r} is no way to serve", hint=f"use {', '.join(known)}")
    if settings.tls_mode is TlsMode.GIVEN and not (settings.tls_certificate and settings.tls_key):
        raise SettingsError(
            "tls is given, and the certificate or its key is not",
            hint="set FLEET_TLS_CERTIFICATE and FLEET_TLS_KEY, or FLEET_TLS=own",
        )


def _check_people(settings: Settings) -> None:
    if settings.oidc_issuer:
        check_http(settings.oidc_issuer, "oidc_issuer")
        issuer = urlsplit(settings.oidc_issuer)
        if issuer.scheme != "https" and not is_loopback(issuer.hostname or ""):
            raise SettingsError(
                f"oidc_issuer = {settings.oidc_issuer!r}: whoever is in between could name other keys",
                hint="an issuer beyond this machine must be https://",
            )
        if not settings.oidc_audience or not settings.oidc_roles:
            raise SettingsError(
                "an OpenID issuer without an audience and roles would let nobody in, or everybody",
                hint="set FLEET_OIDC_AUDIENCE, and FLEET_OIDC_ROLES=group=admin,other=viewer",
            )
    if any(role not in ROLES for role in settings.roles_by_group.values()):
        raise _bad_roles(settings.oidc_roles)
    try:
        settings.proxy_networks  # noqa: B018  looked at for what it raises
    except ValueError as exc:
        raise SettingsError(
            f"trusted_proxies: {exc}: neither an address nor a network", hint="10.0.0.1,10.1.0.0/16"
        ) from exc


def _split_role(pair: str) -> tuple[str, str]:
    group, equals, role = pair.rpartition("=")
    if not equals or not group:
        raise _bad_roles(pair)
    return group, role


def _bad_roles(text: str) -> SettingsError:
    return SettingsError(
        f"oidc_roles = {text!r} does not say which group has which role",
        hint=f"GROUP=ROLE,GROUP=ROLE; roles are {', '.join(ROLES)}",
    )


def split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_addresses(settings: Settings) -> None:
    if settings.broker:
        parse_broker(settings.broker)
    if settings.broker_advertise:
        parse_advertised_broker(settings.broker_advertise)
    _check_broker_access(settings)
    parse_hosts(settings.tls_names, "tls_names")
    if settings.database:
        check_database(settings.database)
    if settings.s3_advertise:
        check_http(settings.s3_advertise, "s3_advertise")
    if is_s3(settings.blobs):
        parse_s3(settings.blobs)
        if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
            raise SettingsError(
                "only one of s3_access_key and s3_secret_key is set",
                hint="set FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY, or neither",
            )


def _check_broker_access(settings: Settings) -> None:
    if settings.broker_access not in BROKER_ACCESS:
        raise SettingsError(
            f"broker_access = {settings.broker_access!r} is not known",
            hint=f"one of {', '.join(BROKER_ACCESS)}",
        )
    tls = bool(settings.broker) and parse_broker(settings.broker).tls
    if settings.broker_access == "dynsec" and not (tls and settings.broker_files):
        raise SettingsError(
            "broker_access = 'dynsec' needs a broker with TLS, and the folder of its files",
            hint="broker = 'mqtts://host:8883', broker_files = the --out of fleet broker config",
        )
    try:
        shlex.split(settings.broker_reload)
    except ValueError as exc:
        raise SettingsError(
            f"broker_reload = {settings.broker_reload!r} is not a command: {exc}",
            hint="for example 'systemctl reload mosquitto'",
        ) from exc


def is_token(text: str) -> bool:
    """Tell whether ``text`` can travel in a header: printable ASCII without spaces."""
    return all("!" <= character <= "~" for character in text)


def _show(key: str, settings: Settings) -> str:
    """Return what is in force, also where an empty setting means a default of its own."""
    value = settings.blobs_place if key == "blobs" else str(getattr(settings, key))
    if key in SECRETS:
        return MASK if value else ""
    derived = {
        "database": settings.database_url,
        "broker": f"embedded, mqtts://{settings.broker_host}:{settings.broker_port}",
        "broker_advertise": "host of the controller's URL" if _broker_is_local(settings) else "as broker",
        "s3_advertise": "as blobs" if is_s3(settings.blobs) else "",
    }
    return mask_url(value or derived.get(key, ""))


def _broker_is_local(settings: Settings) -> bool:
    return not settings.broker or is_loopback(parse_broker(settings.broker).host)


def _read_environment(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Return the settings among the variables. Others that start with ``FLEET_`` are no reason to
    stop: Kubernetes sets FLEET_SERVICE_HOST and FLEET_PORT=tcp://.. where a service is named so."""
    named = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(PREFIX) and not key.startswith(f"{PREFIX}AGENT_")
    }
    given = {key: value for key, value in named.items() if key in known}
    if given.get("port", "").startswith("tcp://"):
        del given["port"]
    ignored = sorted(set(named) - set(given) - RESERVED)
    if ignored:
        log.warning("ignored, no settings of the controller: %s", ", ".join(map(_describe(known), ignored)))
    return given


def _describe(known: Collection[str]) -> Callable[[str], str]:
    def describe(key: str) -> str:
        close = [] if key in known else get_close_matches(key, known, 1)
        return f"{PREFIX}{key.upper()}" + (f" (did you mean {PREFIX}{close[0].upper()}?)" if close else "")

    return describe


def _load_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(
            f"the configuration {path} cannot be read: {exc}", hint="it must be TOML: key = value"
        ) from exc


def _convert(value: Any, default: Any, key: str, origin: str) -> Any:
    kind = type(default)
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise _wrong(key, value, origin, default)
    if kind is int and isinstance(value, float):
        raise _wrong(key, value, origin, default)
    try:
        converted = kind(value)
    except (ValueError, TypeError, OverflowError) as exc:
        raise _wrong(key, value, origin, default) from exc
    if kind in (int, float) and not 0 <= converted < math.inf:
        raise _wrong(key, value, origin, default)
    return converted


def _wrong(key: str, value: Any, origin: str, default: Any) -> SettingsError:
    shown = MASK if key in SECRETS else mask_url(str(value))
    expected = "text" if isinstance(default, str) else f"{type(default).__name__} of 0 or more"
    return SettingsError(
        f"{key} = {shown!r} ({origin}) is not a {expected}", hint=f"for example {key} = {default!r}"
    )


def _unknown(key: str, origin: str, known: list[str]) -> SettingsError:
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return SettingsError(f"unknown setting {key!r} ({origin})", hint=hint)
