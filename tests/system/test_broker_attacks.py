"""A device with a valid certificate against each broker: nothing passes, the other device notices nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.attacked_broker import (
    FORGED,
    OWN,
    ROOT,
    TO_OWN,
    VICTIM,
    AttackedBroker,
    fill,
    on_mosquitto,
    on_the_embedded_broker,
)
from tests.kit.broker_attacks import FALSE_NAMES, FORGERIES, SUBSCRIPTIONS, Forgery
from tests.kit.broker_client import BrokerClient, Refused
from tests.kit.certificates import Party, TestAuthority
from tests.kit.secure_mosquitto import sign_itself

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["mosquitto, 3.1.1", "mosquitto, 5", "embedded, 3.1.1"])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedBroker]:
    kind, _, version = request.param.partition(", ")
    opening = on_mosquitto if kind == "mosquitto" else on_the_embedded_broker
    with opening(tmp_path_factory.mktemp(kind), mqtt5=version == "5") as parties_in_place:
        yield parties_in_place
        assert parties_in_place.victim.is_connected()


@pytest.mark.parametrize("forgery", FORGERIES, ids=str)
def test_a_forged_message_reaches_nobody(stage: AttackedBroker, forgery: Forgery) -> None:
    assert stage.forge(forgery) == []
    assert stage.victim.is_connected()


@pytest.mark.parametrize("asked", SUBSCRIPTIONS)
def test_a_device_hears_nothing_that_is_not_for_it(stage: AttackedBroker, asked: str) -> None:
    granted, heard = stage.eavesdrop(asked)
    assert not granted
    assert heard == []
    assert stage.victim.is_connected()


@pytest.mark.parametrize("name", FALSE_NAMES)
@pytest.mark.parametrize("where", ["client id", "user name"])
def test_a_false_name_changes_nothing(stage: AttackedBroker, name: str, where: str) -> None:
    false = fill(name)
    client_id, username = (false, None) if where == "client id" else (OWN, false)
    try:
        with stage.attacker(client_id, username) as attacker:
            assert not attacker.subscribe(f"{ROOT}/devices/{VICTIM}/desired")
            attacker.publish(f"{ROOT}/devices/{VICTIM}/reported", FORGED)
    except Refused:
        pass
    assert stage.overhear() == []
    assert stage.victim.is_connected()
    assert stage.controller.is_connected()


def test_what_a_device_may_do_passes_on_the_same_ways(stage: AttackedBroker) -> None:
    """Without this the tests above could pass on a broker that lets nothing through."""
    presence = f"{ROOT}/devices/{OWN}/presence"
    with stage.attacker() as device:
        assert device.subscribe(TO_OWN)
        assert device.publish(f"{ROOT}/devices/{OWN}/telemetry", b"rows")
    assert (f"{ROOT}/devices/{OWN}/telemetry", b"rows") in stage.overhear()
    stage.die_with_will(presence)
    assert (presence, FORGED) in stage.overhear()


@pytest.mark.parametrize("kind", ["none", "of itself", "of another CA", "expired", "not yet valid"])
def test_who_has_no_valid_certificate_does_not_connect(
    stage: AttackedBroker, tmp_path: Path, kind: str
) -> None:
    party = make_party(stage, tmp_path, kind)
    for _ in range(2):
        client = BrokerClient(stage.port, party.tls, VICTIM, mqtt5=stage.mqtt5, certificate=kind != "none")
        with pytest.raises(Refused), client:
            pass
    assert stage.overhear() == []
    assert stage.victim.is_connected()


def make_party(stage: AttackedBroker, folder: Path, kind: str) -> Party:
    """Return the victim's name with a certificate that is not good."""
    match kind:
        case "of itself":
            return sign_itself(stage.authority, VICTIM, folder / "itself")
        case "of another CA":
            other = TestAuthority(folder / "other")
            return other.issue(VICTIM, believes=[stage.authority])
        case "expired":
            return stage.authority.issue(VICTIM, from_days=-20, to_days=-0.01, folder=folder / "expired")
        case "not yet valid":
            return stage.authority.issue(VICTIM, from_days=0.5, to_days=20, folder=folder / "early")
        case _:
            return stage.parties[VICTIM]
