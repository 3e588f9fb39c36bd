"""When an agent looks at the releases and renews its certificate: the whole agent, its edges stood in for."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleet_agent.freshness import EVERY_S, SPREAD_S
from fleet_agent.link.events import Connected, Disconnected, ReleasesNews
from fleet_agent.orders import raise_order
from fleet_agent.renewal import is_due
from fleet_agent.renewer import Renewed
from fleet_agent.trust.protocol import CertificateStored, Refreshed, Refused
from fleet_agent.trust_report import TrustNote
from fleet_shared.limits import CERTIFICATE_LIFE_S, OFFLINE_GRACE_S
from fleet_shared.messages.reported import Order, TrustReport
from fleet_shared.names import Digest
from tests.kit.device import Device

DAY_MS = 86_400_000
OLD, NEW = Digest("a" * 64), Digest("b" * 64)


def note(ends_days: float = 180, begins_days: float = 0, issuer: Digest = NEW) -> TrustNote:
    report = TrustReport(
        authorities=(NEW, OLD), issuer=issuer, certificate_expires_ms=int(ends_days * DAY_MS)
    )
    return TrustNote(report=report, certificate_begins_ms=int(begins_days * DAY_MS))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    found = Device(tmp_path)
    found.boot()
    yield found
    found.close()


def hear(device: Device, news: bytes) -> None:
    device.agent.inbox.put(ReleasesNews(news))
    device.run()


# -- news


def test_news_are_followed_soon_and_once(device: Device) -> None:
    hear(device, b"one")
    device.run(SPREAD_S + 1)
    assert device.trust.refreshed == [b"one"]
    hear(device, b"one")
    device.run(SPREAD_S + 1)
    assert device.trust.refreshed == [b"one"], "the broker repeats what it retains"
    hear(device, b"two")
    hear(device, b"three")
    device.run(SPREAD_S + 1)
    assert device.trust.refreshed == [b"one", b"three"]


def test_a_desired_state_brings_the_releases_up_to_date_by_itself(device: Device) -> None:
    device.trust.hold = True
    hear(device, b"one")
    device.push("1.0.0", "a", 1)
    answered = device.trust._open[0][1]
    device.trust._open.clear()
    verified = device.trust._judge(device.trust.asked[0])
    answered(msgspec.structs.replace(verified, trust=TrustNote()))
    device.run(SPREAD_S + 1)
    assert device.trust.refreshed == []


def test_what_cannot_be_brought_up_to_date_is_told_and_tried_again(device: Device) -> None:
    device.trust.refresh_answer = Refused(code="trust.metadata.older", message="a mirror lags", retry=True)
    hear(device, b"one")
    device.run(SPREAD_S + 2)
    assert [one.code for one in device.link.reports[-1].trouble] == ["trust.metadata.older"]
    device.trust.refresh_answer = Refreshed(trust=note())
    device.run(100)
    assert device.link.reports[-1].trouble == ()
    assert device.link.reports[-1].trust == note().report
    tries = len(device.trust.refreshed)
    assert tries >= 2
    device.run(1000)
    assert len(device.trust.refreshed) == tries


def test_without_news_the_releases_are_looked_at_once_a_day(device: Device) -> None:
    for _ in range(24):
        device.clock.seconds += EVERY_S / 24
        device.run(1)
    device.run(1)
    assert len(device.trust.refreshed) == 1


def test_a_broker_that_is_a_stranger_is_a_reason_to_look(device: Device) -> None:
    device.agent.inbox.put(Disconnected("certificate verify failed", untrusted=True))
    device.run(40)
    assert device.trust.refreshed == [b""]
    device.agent.inbox.put(Disconnected("refused"))
    device.run(60)
    assert device.trust.refreshed == [b""], "a broker that is away is none"
    for _ in range(60):
        device.agent.inbox.put(Disconnected("certificate verify failed", untrusted=True))
        device.run(10)
    assert len(device.trust.refreshed) in {2, 3}, "a stranger that stays one is looked up now and then"


# -- renewal


def test_a_certificate_is_renewed_while_more_than_the_grace_is_left() -> None:
    grace_days, life_days = OFFLINE_GRACE_S / 86_400, CERTIFICATE_LIFE_S / 86_400
    halfway = (grace_days + life_days) / 2
    assert not is_due(note(), int((life_days - halfway - 0.01) * DAY_MS))
    assert is_due(note(), int((life_days - halfway + 0.01) * DAY_MS))
    assert halfway > grace_days + 14, "two weeks to reach the controller"
    assert is_due(note(issuer=OLD), 0), "of an authority on its way out"
    assert not is_due(TrustNote(), 0), "none can be read"
    assert is_due(note(ends_days=30), 6 * DAY_MS), "a short life is renewed by its share"
    assert not is_due(note(ends_days=30), 4 * DAY_MS)


def believe(device: Device, believed: TrustNote) -> None:
    device.trust.refresh_answer = Refreshed(trust=believed)
    hear(device, believed.report.issuer.encode())
    device.run(SPREAD_S + 1)


def stored(believed: TrustNote) -> CertificateStored:
    return CertificateStored(trust=believed)


def test_a_new_certificate_is_used_at_once_and_without_a_break(device: Device) -> None:
    believe(device, note(issuer=OLD))
    device.run(SPREAD_S + 3)
    (done,) = device.renewals
    assert device.link.connects == 1
    done(Renewed(stored(note(ends_days=100_000))))
    device.run(1)
    assert device.link.connects == 2
    assert [one.name for one in device.events if one.name.startswith("certificate")] == [
        "certificate.renewed"
    ]
    device.agent.inbox.put(Connected("session-2"))
    device.run(1000)
    assert len(device.renewals) == 1
    assert device.link.reports[-1].trust == note(ends_days=100_000).report


def test_a_renewal_that_failed_is_told_and_tried_ever_more_rarely(device: Device) -> None:
    believe(device, note(issuer=OLD))
    device.run(SPREAD_S + 3)
    waits = []
    for _ in range(4):
        count, before_s = len(device.renewals), device.clock.seconds
        device.renewals[-1](Renewed(Refused(code="enrol.revoked", message="no", retry=False)))
        while len(device.renewals) == count:
            device.run(5)
        waits.append(device.clock.seconds - before_s)
    assert device.link.reports[-1].trouble[0].code == "enrol.revoked"
    assert waits[-1] > 4 * waits[0]


def test_offline_nothing_is_asked_for(tmp_path: Path) -> None:
    device = Device(tmp_path)
    try:
        device.boot(connect=False)
        device.agent.trusting.believed = note(issuer=OLD)
        device.run(600)
        assert device.renewals == []
    finally:
        device.close()


# -- what is reported


def test_an_order_that_was_verified_counts_as_accepted(device: Device) -> None:
    """A controller that was restored from a backup begins above it, and is heard."""
    file = device.agent.paths.order
    file.parent.mkdir()
    raise_order(file, Order(key_epoch=1, generation=50))
    device.push("1.0.0", "a", 1)
    device.run(2)
    assert device.link.reports[-1].accepted == Order(key_epoch=1, generation=50)
