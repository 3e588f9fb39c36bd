"""Addresses of broker, database, blobs and of Fleet itself: how each is written, read and refused.

Pure. The part before the last ``@`` is split off first, so that a password may hold any character.
Every error shows the address masked.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from fleet_cloud.errors import SettingsError
from fleet_cloud.masking import mask_url

MQTT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
PORT_MAX: Final = 65_535
DATABASES: Final = frozenset(
    {"sqlite", "sqlite+pysqlite", "postgres", "postgresql", "postgresql+psycopg", "postgres+psycopg"}
)
_LABEL: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}", re.IGNORECASE)
_NAME_CHARS: Final = 253
_BROKER_HINT: Final = "mqtts://host:8883, or mqtt://user:password@host:1883"
_DATABASE_HINT: Final = "sqlite:///path/fleet.db or postgresql://user:password@host/name"
_S3_HINT: Final = "s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1, or a folder"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """``tls``: both sides show certificates (``mqtts``)."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: bool = False

    def __str__(self) -> str:
        """The address without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class S3Url:
    """``prefix`` ends with a slash or is empty; no endpoint means Amazon's."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str


def parse_broker(text: str, name: str = "broker") -> BrokerUrl:
    """Return the broker that ``text`` names: ``mqtt[s]://[user[:password]@]host[:port]``. User and
    password may be percent-encoded. Raises `SettingsError` that calls the setting ``name``."""
    scheme, separator, rest = text.partition("://")
    before, at, place = rest.rpartition("@")
    host, port = _split_host(place.removesuffix("/"))
    default = MQTT_PORTS.get(scheme.lower())
    if not separator or default is None or not host:
        raise SettingsError(f"{name} {mask_url(text)!r} is not an MQTT address", hint=_BROKER_HINT)
    number = default if port is None else _parse_port(port, name, text, _BROKER_HINT)
    user, colon, password = before.partition(":")
    return BrokerUrl(
        host=host,
        port=number,
        username=unquote(user) if at and user else None,
        password=unquote(password) if colon else None,
        tls=scheme.lower() == "mqtts",
    )


def parse_advertised_broker(text: str, *, tls: bool = False) -> BrokerUrl:
    """Return what ``broker_advertise`` names: ``host[:port]``, with ``tls`` as the controller's own
    address has it, or a whole MQTT address."""
    scheme = "mqtts" if tls else "mqtt"
    return parse_broker(text if "://" in text else f"{scheme}://{text}", "broker_advertise")


def check_database(text: str) -> None:
    """Raise `SettingsError` unless ``text`` is the URL of a database that Fleet knows."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in DATABASES:
        raise SettingsError(
            f"database {mask_url(text)!r} is neither SQLite nor PostgreSQL",
            hint=_DATABASE_HINT,
            code="database.url",
        )
    if scheme.lower().startswith("sqlite"):
        return
    place = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    _, port = _split_host(place)
    if port is not None:
        _parse_port(port, "database", text, _DATABASE_HINT, code="database.url")


def is_s3(blobs: str) -> bool:
    """Tell S3 from a folder; raise `SettingsError` for an address that is neither."""
    scheme, separator, _ = blobs.partition("://")
    if blobs.lower().startswith("s3:"):
        return True
    if separator:
        raise SettingsError(
            f"blobs {mask_url(blobs)!r}: {scheme} is no place that Fleet knows", hint=_S3_HINT
        )
    return False


def parse_s3(text: str) -> S3Url:
    """Return the bucket that ``s3://bucket/prefix?endpoint=..&region=..`` names, or raise
    `SettingsError`."""
    scheme, separator, rest = text.partition("://")
    place, _, query_text = rest.partition("?")
    bucket, _, prefix = place.partition("/")
    query = dict(parse_qsl(query_text))
    if scheme.lower() != "s3" or not separator or not bucket or set(query) - {"endpoint", "region"}:
        raise SettingsError(f"blobs {mask_url(text)!r} is not an S3 address", hint=_S3_HINT)
    if "@" in rest:
        raise SettingsError(
            f"blobs {mask_url(text)!r} names a user",
            hint="the keys belong in FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY",
        )
    endpoint = query.get("endpoint")
    if endpoint is not None:
        check_http(endpoint, "the endpoint of blobs")
    prefix = prefix.strip("/")
    return S3Url(bucket, f"{prefix}/" if prefix else "", endpoint, query.get("region", "us-east-1"))


def check_http(text: str, name: str) -> None:
    """Raise `SettingsError` unless ``text`` is an HTTP address with a host and without a user."""
    hint = "for example http://host:9000"
    try:
        parts = urlsplit(text)
        host, scheme, port = parts.hostname, parts.scheme, parts.port
    except ValueError as exc:
        raise SettingsError(f"{name} {mask_url(text)!r} is not an HTTP address", hint=hint) from exc
    if scheme not in ("http", "https") or not host or "@" in text or parts.query or port == 0:
        raise SettingsError(f"{name} {mask_url(text)!r} is not an HTTP address", hint=hint)


def _split_host(place: str) -> tuple[str, str | None]:
    """Return host and port as text; no host for what is neither."""
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", None
        return host, rest[1:] if rest else None
    host, colon, port = place.partition(":")
    if any(character in host for character in "/?# \t\r\n\0[]"):
        return "", None
    return host, port if colon else None


def _parse_port(text: str, name: str, whole: str, hint: str, code: str = "") -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= PORT_MAX:
        return int(text)
    raise SettingsError(
        f"{name} {mask_url(whole)!r} has a port that is not a number from 1 to {PORT_MAX}",
        hint=hint,
        code=code,
    )


def is_loopback(host: str) -> bool:
    """Tell whether ``host``, a name or an address, is this machine as it speaks to itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def network_of(address: str) -> str:
    """Return whom an address stands for where senders are counted: a whole /64 of IPv6 is one customer's.
    What is no address stands for itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 64), strict=False) if mapped is None else mapped)


def clean_host(text: str) -> str | None:
    """Return a host as certificates write it, none for what is no host that can be reached."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        good = len(text) <= _NAME_CHARS and all(_LABEL.fullmatch(label) for label in text.split("."))
        return text.lower() if good else None
    return None if address.is_unspecified else str(address)


def parse_hosts(text: str, name: str) -> list[str]:
    """Return the hosts in ``text``, between commas; raise `SettingsError` that calls the setting ``name``."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        host = clean_host(part)
        if host is None:
            raise SettingsError(
                f"{name} has {part!r}, which is neither a name nor an address of a machine",
                hint="for example fleet.example,192.0.2.7: without scheme, port and *",
            )
        found.append(host)
    return found
