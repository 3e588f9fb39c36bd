"""What the unit does before Mosquitto starts: rules that a power cut has torn are replaced."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fleet_cloud.adapters.mosquitto.commands import entry_of
from fleet_cloud.adapters.mosquitto.configuration import DROP_IN, START_STATE, Place, write_configuration
from fleet_cloud.adapters.mosquitto.files import BrokerFiles
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics
from tests.kit.certificates import LOOPBACK
from tests.kit.secure_mosquitto import CONTROLLER, RevokingAuthority


@pytest.mark.parametrize("damage", ["none", "torn", "empty", "gone"])
def test_torn_rules_are_replaced_by_those_of_the_start(tmp_path: Path, damage: str) -> None:
    place, topics = Place(tmp_path / "broker", tmp_path / "state.json", 8883), Topics()
    authority = RevokingAuthority(tmp_path / "authority")
    server = authority.issue("server", hosts=[LOOPBACK]).tls
    (tmp_path / "crl.pem").write_bytes(authority.crl_pem())
    source = BrokerFiles(server.authorities, tmp_path / "crl.pem", server.certificate, server.key)
    entry = entry_of(topics, DeviceId("pi-1"), Digest("a" * 64))
    write_configuration(place, topics, CONTROLLER, [entry], source)
    start = (place.folder / START_STATE).read_text()
    kept = start.replace("pi-1", "pi-2")
    match damage:
        case "none":
            place.state.write_text(kept)
        case "torn":
            place.state.write_text(kept[:200])
        case "empty":
            place.state.write_text("")
        case _:
            place.state.unlink()
    (line,) = re.findall(r"^ExecStartPre=(.*)$", (place.folder / DROP_IN).read_text(), re.MULTILINE)
    command = shlex.split(line.replace("$$", "$").replace("-o mosquitto ", ""))
    subprocess.run(command, check=True)
    assert place.state.read_text() == (kept if damage == "none" else start)
