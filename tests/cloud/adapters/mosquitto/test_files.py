"""What Mosquitto is given to read: good files at once, and never a bad one."""

from pathlib import Path

import pytest

from fleet_cloud.adapters.mosquitto.files import BrokerFiles, Reload, files_in
from fleet_cloud.errors import Unavailable
from tests.kit.certificates import LOOPBACK
from tests.kit.secure_mosquitto import RevokingAuthority


@pytest.fixture
def authority(tmp_path: Path) -> RevokingAuthority:
    return RevokingAuthority(tmp_path / "authority")


@pytest.fixture
def source(tmp_path: Path, authority: RevokingAuthority) -> BrokerFiles:
    server = authority.issue("server", hosts=[LOOPBACK]).tls
    (tmp_path / "crl.pem").write_bytes(authority.crl_pem())
    return BrokerFiles(server.authorities, tmp_path / "crl.pem", server.certificate, server.key)


@pytest.fixture
def copies(tmp_path: Path) -> BrokerFiles:
    (tmp_path / "broker").mkdir()
    return files_in(tmp_path / "broker")


def test_the_broker_is_told_of_what_changed_and_only_then(
    tmp_path: Path, source: BrokerFiles, copies: BrokerFiles, authority: RevokingAuthority
) -> None:
    told = tmp_path / "told"
    reload = Reload(source, copies, f"sh -c 'echo x >> {told}'")
    reload()
    reload()
    assert told.read_text() == "x\n"
    authority.revoke(authority.issue("pi-1"))
    source.revoked.write_bytes(authority.crl_pem())
    reload()
    assert told.read_text() == "x\nx\n"
    assert copies.revoked.read_bytes() == source.revoked.read_bytes()
    assert copies.key.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "damage",
    ["no list", "empty list", "torn list", "a certificate for a list", "another key", "no authority"],
)
def test_what_a_broker_could_not_use_takes_the_place_of_nothing(
    source: BrokerFiles, copies: BrokerFiles, authority: RevokingAuthority, damage: str
) -> None:
    reload = Reload(source, copies, "")
    reload()
    before = {path: path.read_bytes() for path in copies.revoked.parent.iterdir()}
    match damage:
        case "no list":
            source.revoked.unlink()
        case "empty list":
            source.revoked.write_bytes(b"")
        case "torn list":
            source.revoked.write_bytes(source.revoked.read_bytes()[:-100])
        case "a certificate for a list":
            source.revoked.write_bytes(authority.pem)
        case "another key":
            source.key.write_bytes(authority.issue("other").tls.key.read_bytes())
        case _:
            source.authorities.write_bytes(b"")
    with pytest.raises(Unavailable) as caught:
        reload()
    assert caught.value.code == "broker.files"
    assert {path: path.read_bytes() for path in copies.revoked.parent.iterdir()} == before


def test_an_authority_without_a_revocation_list_waits_for_it(
    source: BrokerFiles, copies: BrokerFiles, authority: RevokingAuthority, tmp_path: Path
) -> None:
    """Mosquitto lets in nobody of an authority that it has no list of."""
    newer = RevokingAuthority(tmp_path / "newer", "Newer CA")
    source.authorities.write_bytes(newer.pem + authority.pem)
    reload = Reload(source, copies, "")
    with pytest.raises(Unavailable):
        reload()
    source.revoked.write_bytes(newer.crl_pem() + authority.crl_pem())
    reload()
    assert copies.authorities.read_bytes() == source.authorities.read_bytes()


@pytest.mark.parametrize("command", ["false", "/nowhere/to/be/found"])
def test_a_broker_that_was_not_told_is_told_the_next_time(
    tmp_path: Path, source: BrokerFiles, copies: BrokerFiles, command: str
) -> None:
    switch = tmp_path / "switch"
    switch.symlink_to("/bin/false" if command == "false" else command)
    reload = Reload(source, copies, str(switch))
    with pytest.raises(Unavailable) as caught:
        reload()
    assert caught.value.code == "broker.reload"
    told = tmp_path / "told"
    switch.unlink()
    switch.write_text(f"#!/bin/sh\necho x >> {told}\n")
    switch.chmod(0o700)
    reload()
    reload()
    assert told.read_text() == "x\n"


def test_a_folder_that_cannot_be_written_is_said(source: BrokerFiles, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        Reload(source, files_in(tmp_path / "nowhere"), "")()
    assert caught.value.code == "broker.files"
