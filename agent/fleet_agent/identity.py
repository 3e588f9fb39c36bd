"""Who this device is and where its controller is: written by enrolment, read at each start."""

from contextlib import suppress
from pathlib import Path

import msgspec

from fleet_agent.errors import SettingsError
from fleet_shared.durable import write_durably
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import DeviceId


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


def note_secured(folder: Path, port: int) -> None:
    """From now on the broker has TLS, at this port: nothing without is tried any more. What the disk refuses
    is found out anew at the next start."""
    with suppress(OSError, SettingsError):
        identity = load_identity(folder)
        broker = msgspec.structs.replace(identity.broker, tls=True, port=port)
        save_identity(folder, msgspec.structs.replace(identity, broker=broker))


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
