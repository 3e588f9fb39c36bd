"""Who this device is and where its controller is: written by enrolment, read at each start."""

import logging
from pathlib import Path

import msgspec

from fleet_agent.errors import SettingsError
from fleet_shared.durable import write_durably
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import DeviceId

log = logging.getLogger(__name__)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = 1
    device: DeviceId
    controller_url: str
    metadata_path: str
    targets_path: str
    topic_root: str
    broker: BrokerAddress

    @property
    def metadata_url(self) -> str:
        return self.controller_url + self.metadata_path

    @property
    def targets_url(self) -> str:
        return self.controller_url + self.targets_path


def save_identity(folder: Path, identity: Identity) -> None:
    write_durably(folder / "device.json", msgspec.json.encode(identity), mode=0o600)


def keep_tls(folder: Path, identity: Identity) -> None:
    """Whoever was enrolled when the broker had no TLS asks for it from now on. A disk that does not take it
    is no reason to stop: the device finds out again at its next start."""
    broker = msgspec.structs.replace(identity.broker, tls=True)
    try:
        save_identity(folder, msgspec.structs.replace(identity, broker=broker))
    except OSError as exc:
        log.warning("that the broker takes TLS could not be kept: %s", exc)


def load_identity(folder: Path) -> Identity:
    """Return the identity; raise `SettingsError` (``agent.not_enrolled``, ``agent.permission``,
    ``identity.damaged``)."""
    file = folder / "device.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Identity)
    except FileNotFoundError as exc:
        raise SettingsError(
            "this device is not enrolled",
            hint="on the controller: fleet device token; here: fleet-agent enrol URL --token TOKEN",
            code="agent.not_enrolled",
        ) from exc
    except PermissionError as exc:
        raise SettingsError(
            f"{file} may not be read by this user",
            hint="run it as root or as the user of the agent: sudo fleet-agent ...",
            code="agent.permission",
        ) from exc
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise SettingsError(
            f"{file} cannot be read: {exc}", hint="enrol this device again", code="identity.damaged"
        ) from exc
