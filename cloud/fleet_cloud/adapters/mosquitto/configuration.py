"""Everything that a Mosquitto needs to serve Fleet, written into one folder.

Checked with Mosquitto 2.0.11, the one of Debian 12.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet_cloud.adapters.mosquitto.commands import Entry, start_state
from fleet_cloud.adapters.mosquitto.files import BrokerFiles, copy_files, files_in
from fleet_cloud.errors import SettingsError
from fleet_shared.durable import write_durably
from fleet_shared.limits import KIB, MIB
from fleet_shared.topics import Topics

PACKET_BYTES: Final = 136 * KIB
"""A message of 128 KiB with its topic and properties."""
QUEUED_MESSAGES: Final = 20_000
"""Of one client: all devices may speak at once, and the controller is one client."""
QUEUED_BYTES: Final = 64 * MIB
INFLIGHT: Final = 100
STATE: Final = "dynamic-security.json"
START_STATE: Final = "dynamic-security.start.json"
CONFIGURATION: Final = "mosquitto.conf"
DROP_IN: Final = "mosquitto.service.d-fleet.conf"

_CONFIGURATION: Final = """\
# Written by `fleet broker config`; written again by it, so change the command and not this file.
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false

# Who has no certificate of the CA does not connect. The certificate's name is user and client id: without the
# second line a device that connects with the id of another throws that one out.
listener {listener}
cafile {files.authorities}
certfile {files.certificate}
keyfile {files.key}
crlfile {files.revoked}
require_certificate true
use_identity_as_username true
use_username_as_clientid true

# What each client may: by default nothing.
plugin {plugin}
plugin_opt_config_file {state}

# The broker is a cache: nothing is kept over a restart, and what is said is said again on each connection.
persistence false
persistent_client_expiration 1h
max_packet_size {packet}
max_queued_messages {queued}
max_queued_bytes {queued_bytes}
max_inflight_messages {inflight}
set_tcp_nodelay true
sys_interval 0

log_dest stderr
log_type error
log_type warning
log_type notice
"""

_DROP_IN: Final = """\
# To /etc/systemd/system/mosquitto.service.d/fleet.conf
[Service]
# Mosquitto 2.0.11 writes its rules in place: a power cut can leave them torn, and then the controller has no
# right to mend them. Torn rules are replaced by those of the start; the controller adds the devices again.
ExecStartPre=/bin/sh -c '[ "$$(tail -c 1 {state})" = "}}" ] || install -o mosquitto -m 600 {start} {state}'
ExecStart=
ExecStart=/usr/sbin/mosquitto -c {configuration}
Restart=always
"""


@dataclass(frozen=True, slots=True)
class Place:
    """``folder``: what the controller writes and the broker reads; ``state``: the file that the broker itself
    writes its rules to; ``address``: empty listens on all."""

    folder: Path
    state: Path
    port: int
    address: str = ""
    plugin: str = "mosquitto_dynamic_security.so"

    def __post_init__(self) -> None:
        """Mosquitto's file has a setting on each line, and systemd's has quotes."""
        for text in (str(self.folder), str(self.state), self.address, self.plugin):
            if any(character.isspace() or character in "'\"\\%$" for character in text):
                raise SettingsError(
                    f"{text!r} cannot stand in Mosquitto's configuration",
                    hint="use a path without spaces, quotes, '%' and '$'",
                    code="broker.config",
                )


def write_configuration(
    place: Place, topics: Topics, controller: str, entries: Iterable[Entry], source: BrokerFiles
) -> list[Path]:
    """Write configuration, rules of the start and TLS files; return what was written. The rules that a broker
    has by now are left alone. Raises `Unavailable` (``broker.files``), `SettingsError`."""
    state = json.dumps(start_state(topics, controller, entries), indent=1).encode()
    texts = {CONFIGURATION: describe(place), DROP_IN: _describe_unit(place)}
    try:
        place.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        copy_files(source, files_in(place.folder))
        for name, text in texts.items():
            write_durably(place.folder / name, text.encode())
        write_durably(place.folder / START_STATE, state, mode=0o640)
        if not place.state.exists():
            place.state.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            write_durably(place.state, state, mode=0o600)
    except OSError as exc:
        raise SettingsError(
            f"the broker's configuration cannot be written: {exc}",
            hint="choose a folder that you may write: --out",
            code="broker.config",
        ) from exc
    return sorted(path for path in (*place.folder.iterdir(), place.state) if path.is_file())


def describe(place: Place) -> str:
    """Return the text of ``mosquitto.conf``."""
    return _CONFIGURATION.format(
        listener=f"{place.port} {place.address}".strip(),
        files=files_in(place.folder),
        plugin=place.plugin,
        state=place.state,
        packet=PACKET_BYTES,
        queued=QUEUED_MESSAGES,
        queued_bytes=QUEUED_BYTES,
        inflight=INFLIGHT,
    )


def _describe_unit(place: Place) -> str:
    return _DROP_IN.format(
        state=place.state,
        start=place.folder / START_STATE,
        configuration=place.folder / CONFIGURATION,
    )
