"""A whole agent beside a broker that takes certificates only: authorities are replaced and certificates
renewed while it runs, and nobody has to come. Real trust children, a real broker, real HTTP."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from fleet_agent import freshness, renewal
from fleet_agent.bootstrap import build_supervisor
from fleet_agent.identity import Identity, save_identity
from fleet_agent.link import backoff
from fleet_agent.paths import StatePaths
from fleet_agent.settings import Settings
from fleet_agent.trust.identity import accept_enrolment, make_key
from fleet_agent.trust.protocol import AcceptEnrolment, MakeKey
from fleet_shared.errors import MessageError
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.messages.fetch import Chunk, Fetch, encode_chunk
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Reported, TrustReport
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.wire import decode
from tests.kit.authority import Authority
from tests.kit.local_broker import Application, LocalBroker
from tests.kit.ports import free_port
from tests.kit.releases import Releases
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.system

PI = DeviceId("pi-1")
RIGHTS = {
    "pi-1": "topic read fleet/v1/releases\npattern readwrite fleet/v1/devices/%u/#",
    "ctl": "topic readwrite fleet/v1/#",
}


class Controller(Application):
    """Signs what it is asked to by ``signer``; remembers what the device says."""

    def __init__(self, port: int, certificates: Path, signer: Callable[[], Authority]) -> None:
        super().__init__(port, "ctl", "fleet/v1/devices/pi-1/#", certificates)
        self.signer = signer
        self.presences: list[Presence] = []
        self.trust: TrustReport | None = None
        self.csrs = 0

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        channel, payload = message.topic.rpartition("/")[2], bytes(message.payload)
        try:
            if channel == "presence":
                self.presences.append(decode(Presence, payload))
            elif channel == "reported":
                self.trust = decode(Reported, payload).trust
            elif channel == "fetch":
                self._answer(decode(Fetch, payload))
        except MessageError as exc:
            raise AssertionError(payload) from exc

    def _answer(self, question: Fetch) -> None:
        assert question.csr_pem is not None
        self.csrs += 1
        pem = self.signer().sign_csr(question.csr_pem, PI)
        raw = encode_chunk(Chunk(request=question.request), pem.encode())
        self.publish("fleet/v1/devices/pi-1/chunk", raw)


@dataclass(eq=False)
class Site:
    """``authorities``: what the controller believes, newest first."""

    folder: Path
    releases: Releases
    broker: LocalBroker
    authorities: list[Authority]
    newer: Authority = field(default_factory=lambda: Authority("second"))
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.folder / "state"

    def enrol(self, begins_days: float = -1, ends_days: float = 180) -> None:
        paths, (authority,) = StatePaths(self.state), self.authorities
        made = make_key(MakeKey(identity_dir=str(paths.identity), device=PI))
        accept_enrolment(
            AcceptEnrolment(
                identity_dir=str(paths.identity), trust_dir=str(paths.trust), device=PI,
                ca_sha256=digest_of(authority.pem.encode()), root_sha256=digest_of(self.releases.pinned),
                ca_pem=authority.pem,
                certificate_pem=authority.sign_csr(
                    made.csr_pem, PI, begins_days=begins_days, ends_days=ends_days
                ), root_json=self.releases.pinned.decode(),
            )
        )  # fmt: skip
        identity = Identity(
            device=PI, controller_url=self.releases.url, metadata_path="/metadata", targets_path="/targets",
            topic_root="fleet/v1", broker=BrokerAddress(host="127.0.0.1", port=self.broker.port, tls=True),
        )  # fmt: skip
        save_identity(paths.identity, identity)

    def serve_by(self, authority: Authority) -> None:
        """Give the broker a certificate of this authority; it takes devices of the newer one as well."""
        folder = self.broker.certificates
        assert folder is not None
        (folder / "ca.pem").write_text("".join(one.pem for one in {*self.authorities, self.newer}))
        authority.write(folder, "server", "broker")
        authority.write(folder, "ctl", "ctl")

    def restart_broker(self) -> None:
        self.broker.end()
        self.broker.start()

    def release(self) -> bytes:
        """Release the authorities; return the news of it."""
        self.releases.release_authorities(*(one.pem for one in self.authorities))
        return self.releases.files["metadata/timestamp.json"]

    @contextmanager
    def controller(self) -> Iterator[Controller]:
        assert self.broker.certificates is not None
        found = Controller(self.broker.port, self.broker.certificates, lambda: self.authorities[0])
        with found.running():
            yield found

    @contextmanager
    def agent(self) -> Iterator[None]:
        settings = Settings(state=self.state, http_port=0, retry_ceiling_s=0.3, runtimes="litert")
        with build_supervisor(settings) as supervisor:
            thread = threading.Thread(target=supervisor.run)
            thread.start()
            try:
                yield
            finally:
                supervisor.stop()
                thread.join(60)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Nobody waits for others: there is one device."""
    monkeypatch.setattr(freshness, "SPREAD_S", 0.0)
    monkeypatch.setattr(renewal, "SPREAD_S", 0.0)
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    releases = Releases()
    with releases.serving():
        broker = LocalBroker(tmp_path / "broker", RIGHTS, free_port(), certificates)
        found = Site(tmp_path, releases, broker, [Authority("first")])
        found.serve_by(found.authorities[0])
        broker.start()
        try:
            yield found
        finally:
            broker.end(9)


def name_of(authority: Authority) -> str:
    return authority.certificate.fingerprint(SHA256()).hex()


def trusts(controller: Controller, authorities: list[Authority], issuer: Authority) -> bool:
    trust = controller.trust
    return (
        trust is not None
        and list(trust.authorities) == [name_of(one) for one in authorities]
        and trust.issuer == name_of(issuer)
    )


def test_authorities_are_replaced_while_an_agent_runs(site: Site) -> None:
    site.enrol()
    first, second = site.authorities[0], site.newer
    with site.controller() as controller, site.agent():
        wait_for("the device", lambda: trusts(controller, [first], first))
        assert controller.csrs == 0, "its certificate is good for long"
        site.authorities = [second, first]
        controller.publish("fleet/v1/releases", site.release())
        wait_for("the renewal", lambda: trusts(controller, [second, first], second))
        wait_for("a new connection", lambda: len({one.session for one in controller.presences}) == 2)
        assert all(one.online for one in controller.presences), "presence had a break"
        assert controller.csrs == 1
    site.authorities = [second]
    news = site.release()
    site.serve_by(second)
    site.restart_broker()
    with site.controller() as controller, site.agent():
        wait_for("the device", lambda: any(one.online for one in controller.presences))
        controller.publish("fleet/v1/releases", news)
        wait_for("the end of the older one", lambda: trusts(controller, [second], second))


def test_a_device_that_missed_a_replacement_learns_of_it_from_the_releases(site: Site) -> None:
    """Its broker is a stranger to it. It does not speak to it before it knows better."""
    site.enrol()
    first, second = site.authorities[0], site.newer
    site.authorities = [second, first]
    site.release()
    site.serve_by(second)
    site.restart_broker()
    with pytest.MonkeyPatch.context() as patch, site.controller() as controller:
        patch.setattr(backoff.Backoff, "next_delay_s", lambda *_: 0.2)
        with site.agent():
            wait_for("the device", lambda: trusts(controller, [second, first], second))
    assert "pi-1" in site.broker.read_log()


def test_a_certificate_is_renewed_long_before_its_end(site: Site) -> None:
    """140 of 180 days are left: whoever leaves now may stay away for 120, and needs no hand."""
    site.enrol(begins_days=-40, ends_days=140)
    with site.controller() as controller, site.agent():
        wait_for(
            "the renewal",
            lambda: controller.csrs == 1 and len({s.session for s in controller.presences}) == 2,
        )
        wait_for("its report", lambda: days_left(controller) > 170)
        assert all(one.online for one in controller.presences), "presence had a break"


def days_left(controller: Controller) -> float:
    trust = controller.trust
    ends_ms = 0 if trust is None else trust.certificate_expires_ms or 0
    return (ends_ms / 1000 - time.time()) / 86_400
