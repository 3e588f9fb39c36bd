"""Two devices that take the same name at the same time: one is enrolled, the other is refused."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.errors import CloudError
from fleet_cloud.services.enrolment import Enrolling, Site
from fleet_shared.messages.enrolment import BrokerAddress, EnrolRequest
from fleet_shared.names import DeviceId
from tests.kit.people import ADMIN

PI = DeviceId("pi-1")


@pytest.fixture(params=["sqlite", "postgresql"])
def enrolling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Enrolling]:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    migrate(engine)
    site = Site("fleet/v1", "/m", "/t", BrokerAddress(port=1883))
    authority = ControllerTrust(tmp_path / "trust").authority
    yield Enrolling(DatabaseUnitOfWork(engine), authority, SystemClock(), site)
    engine.dispose()


def request_for(enrolling: Enrolling) -> EnrolRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PI)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = csr.sign(generate_private_key(SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    secret = enrolling.create_token({}, 60, ADMIN).secret
    return EnrolRequest(secret=secret, device=PI, csr_pem=pem.decode())


def test_one_name_is_given_once(enrolling: Enrolling) -> None:
    requests = [request_for(enrolling) for _ in range(8)]
    results: dict[int, str] = {}
    together = threading.Barrier(len(requests))

    def enrol(number: int) -> None:
        together.wait(10)
        try:
            enrolling.enrol(requests[number])
            results[number] = "enrolled"
        except CloudError as exc:
            results[number] = exc.code

    threads = [threading.Thread(target=enrol, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results.values()) == ["enrol.device.exists"] * 7 + ["enrolled"]
    winner = next(number for number, result in results.items() if result == "enrolled")
    with enrolling.uow.read() as transaction:
        device = transaction.devices.get(PI)
    assert device is not None
    assert device.public_key_sha256 == enrolling.ca.public_key_digest(requests[winner].csr_pem)
    enrolling.enrol(requests[winner])
