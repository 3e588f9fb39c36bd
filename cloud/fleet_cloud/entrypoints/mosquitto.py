"""Setting a Mosquitto up for the controller whose settings are given, and what to do with the result."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_cloud.addresses import parse_broker
from fleet_cloud.bootstrap.mosquitto import configure_mosquitto
from fleet_cloud.errors import SettingsError
from fleet_cloud.settings import Settings

PORT = 8883


@dataclass(frozen=True, slots=True)
class Written:
    """``settings``: what the controller is to be told, as TOML."""

    files: list[Path]
    settings: str


def configure(
    settings: Settings, folder: Path, state: Path | None, address: str, hosts: list[str]
) -> Written:
    """Write everything for ``broker`` of the settings, or else for the first of ``hosts``, by which devices
    reach it; all of them are in its certificate. Raises `SettingsError` when there is neither."""
    names = [*filter(None, settings.tls_names.split(",")), *hosts]
    url = parse_broker(settings.broker or f"mqtts://{_first(hosts)}:{PORT}")
    if not url.tls:
        raise SettingsError(
            f"the broker {url} would know nobody by a certificate",
            hint="name it mqtts://host:8883",
            code="broker.config",
        )
    named = replace(settings, broker=str(url), tls_names=",".join(dict.fromkeys(names)))
    folder = folder.absolute()
    place = folder / "state" / "dynamic-security.json" if state is None else state.absolute()
    files = configure_mosquitto(named, folder, place, url.port, address)
    return Written(files, _describe(named, folder))


def _first(hosts: list[str]) -> str:
    if not hosts:
        raise SettingsError(
            "nothing says where devices reach the broker",
            hint="--host NAME, or the setting broker = 'mqtts://host:8883'",
            code="broker.config",
        )
    return f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]


def _describe(settings: Settings, folder: Path) -> str:
    lines = {
        "broker": settings.broker,
        "broker_access": "dynsec",
        "broker_files": str(folder),
        "broker_reload": settings.broker_reload or "systemctl reload mosquitto",
        "tls_names": settings.tls_names,
    }
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items() if value)
