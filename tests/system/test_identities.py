"""Who may be a device here, at the real brokers: the embedded one and Mosquitto."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import pytest

from fleet_cloud.services.observe import Observe
from fleet_shared.messages.enrolment import EnrolReply
from fleet_shared.messages.reported import Reported, TrustReport
from fleet_shared.names import DeviceId
from fleet_shared.topics import Topics
from tests.cloud.domain.test_rules import FACTS
from tests.kit.identities import make_device
from tests.kit.identity_brokers import BrokerWorld, embedded, mosquitto
from tests.kit.people import ADMIN

pytestmark = pytest.mark.system

PI = DeviceId("pi-1")
CUT_WITHIN_S: Final = 2.0
BROKERS = MappingProxyType({"embedded": embedded, "mosquitto": mosquitto})


@pytest.fixture(params=BROKERS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerWorld]:
    opened: AbstractContextManager[BrokerWorld] = BROKERS[request.param](tmp_path)
    with opened as running:
        yield running


def test_a_device_comes_in_when_it_has_enrolled_and_leaves_when_it_is_revoked(site: BrokerWorld) -> None:
    revocation = site.world.identities.revocation
    tls, other = site.world.files("pi-1"), site.world.files("pi-2")
    with site.connect("pi-1", tls) as client, site.connect("pi-2", other) as witness:
        assert client.publish("fleet/v1/devices/pi-1/reported", b"{}")
        began_s = time.monotonic()
        _, cut = revocation.revoke("pi-1", ADMIN)
        client.wait_until_gone()
        assert cut
        assert time.monotonic() - began_s < CUT_WITHIN_S
        assert witness.publish("fleet/v1/devices/pi-2/reported", b"{}"), "nobody else notices"
    assert not site.lets_in("pi-1", tls)
    site.world.restart().upkeep.start()
    assert not site.lets_in("pi-1", tls), "nor after the controller has started anew"
    revocation.readmit("pi-1", ADMIN)
    site.wait_until_let_in("pi-1", tls)


def test_a_certificate_alone_lets_nobody_in(site: BrokerWorld) -> None:
    """A device that the database does not know: it was restored from a backup, say."""
    stranger = make_device(site.world.trust.authority, DeviceId("pi-9"), site.world.folder / "stranger")
    assert not site.lets_in("pi-9", stranger)


def test_the_embedded_broker_knows_keys_and_not_only_names(tmp_path: Path) -> None:
    with embedded(tmp_path) as site:
        known = site.world.files("pi-1")
        twin = make_device(site.world.trust.authority, PI, tmp_path / "twin")
        assert site.lets_in("pi-1", known)
        assert not site.lets_in("pi-1", twin)


def test_a_new_key_cuts_the_old_one_off(site: BrokerWorld) -> None:
    old = site.world.files("pi-1")
    with site.connect("pi-1", old) as client:
        secret = site.world.token(device="pi-1")
        new = site.world.files("pi-1", site.world.enrol("pi-1", secret, new_key=True))
        client.wait_until_gone()
    assert site.lets_in("pi-1", new)
    assert not site.lets_in("pi-1", old)


def test_a_renewed_certificate_comes_in_beside_the_live_session_of_the_older_one(site: BrokerWorld) -> None:
    old = site.world.files("pi-1")
    with site.connect("pi-1", old):
        renewed = renew(site, "pi-1")
        new = site.world.files("pi-1", renewed)
        assert site.lets_in("pi-1", new)
    assert site.lets_in("pi-1", old), "until its end, for a device that lost the answer"


def test_an_authority_is_replaced_while_devices_stay_connected(site: BrokerWorld) -> None:
    rotation = site.world.identities.rotation
    old, late = site.world.files("pi-1"), site.world.files("pi-2")
    with site.connect("pi-1", old) as client:
        new_authority, _ = rotation.begin(ADMIN).fingerprints
        assert client.publish("fleet/v1/devices/pi-1/reported", b"{}")
        assert site.lets_in("pi-2", late), "what the older authority issued is good still"
        new = site.world.files("pi-1", renew(site, "pi-1"))
    site.wait_until_let_in("pi-1", new)
    report(site, "pi-1", new_authority)
    assert rotation.status().behind == ("pi-2",)
    rotation.finish(ADMIN, force=True)
    after = site.world.files("pi-1", renew(site, "pi-1"))
    site.wait_until_let_in("pi-1", after)
    assert not site.lets_in("pi-2", late)
    site.world.identities.revocation.revoke("pi-1", ADMIN)
    assert not site.lets_in("pi-1", after)


def renew(site: BrokerWorld, device: str) -> EnrolReply:
    """Return what a device has after it renewed at the broker, and heard of the authorities."""
    enrolling = site.world.identities.enrolling
    pem = enrolling.renew(DeviceId(device), site.world.csr(device))
    authorities = site.world.trust.authority.ca_pem
    return EnrolReply(
        device=DeviceId(device), certificate_pem=pem, ca_pem=authorities, root_json="{}",
        metadata_path="/m", targets_path="/t", topic_root="fleet/v1", broker=enrolling.site.broker,
    )  # fmt: skip


def report(site: BrokerWorld, device: str, authority: str) -> None:
    known = site.world.trust.authority.fingerprints
    trust = TrustReport(authorities=known, issuer=known[0])
    assert known[0] == authority
    reported = msgspec.structs.replace(Reported(session="s", facts=FACTS), trust=trust)
    Observe(site.world.uow, site.world.clock, Topics()).reported(DeviceId(device), reported)
