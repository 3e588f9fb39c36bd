"""What a device believes and who it is: released authorities, renewed certificates, the order of orders."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_agent.errors import AgentError
from fleet_agent.floor import load_floor_ms
from fleet_agent.orders import load_order
from fleet_agent.trust.identity import accept_enrolment, make_key, read_certificate, store_certificate
from fleet_agent.trust.protocol import AcceptEnrolment, MakeKey, ReadCertificate, Refused, StoreCertificate
from fleet_agent.trust_report import TrustNote, load_note
from fleet_shared.envelope import Authorities
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.wire import encode
from tests.kit.authority import Authority
from tests.kit.device_edges import make_manifest
from tests.kit.releases import Releases, far
from tests.kit.trusting import DAY_MS, PI, TrustingDevice


@pytest.fixture
def releases() -> Iterator[Releases]:
    found = Releases()
    with found.serving():
        yield found


@pytest.fixture
def authority() -> Authority:
    return Authority("first")


@pytest.fixture
def device(tmp_path: Path, releases: Releases, authority: Authority) -> TrustingDevice:
    found = TrustingDevice(tmp_path / "device", releases)
    enrol(found, authority)
    found.manifest = releases.release_manifest(make_manifest("1.0.0"))
    return found


def enrol(device: TrustingDevice, authority: Authority, ends_days: float = 180) -> None:
    identity = device.folder / "identity"
    key = make_key(MakeKey(identity_dir=str(identity), device=PI))
    accept_enrolment(
        AcceptEnrolment(
            identity_dir=str(identity), trust_dir=str(device.folder / "trust"), device=PI,
            ca_sha256=digest_of(authority.pem.encode()), root_sha256=digest_of(device.releases.pinned),
            certificate_pem=authority.sign_csr(key.csr_pem, PI, ends_days=ends_days), ca_pem=authority.pem,
            root_json=device.releases.pinned.decode(),
        )
    )  # fmt: skip


def note_of(device: TrustingDevice) -> TrustNote:
    return load_note(device.folder / "trust" / "report.json")


def ca_of(device: TrustingDevice) -> str:
    return (device.folder / "identity" / "ca.pem").read_text()


# -- authorities


def test_released_authorities_take_the_place_of_those_of_enrolment(
    device: TrustingDevice, releases: Releases, authority: Authority
) -> None:
    device.refreshes()
    assert ca_of(device) == authority.pem, "none are released"
    second = Authority("second")
    releases.release_authorities(second.pem, authority.pem)
    note = device.refreshes().trust
    assert ca_of(device) == second.pem + authority.pem
    assert len(note.report.authorities) == 2
    assert note.report.issuer == note.report.authorities[1]
    assert not note.is_of_newest
    assert note == note_of(device)
    releases.release_authorities(second.pem)
    assert device.accepts().trust == note_of(device)
    assert ca_of(device) == second.pem
    assert note_of(device).report.issuer == "", "its certificate is of none of them"


@pytest.mark.parametrize("case", ["none", "nonsense", "no authority", "too many", "two in one"])
def test_authorities_that_cannot_be_used_leave_those_that_were(
    device: TrustingDevice, releases: Releases, authority: Authority, case: str
) -> None:
    from tests.kit.authority import make_key as make

    leaf = authority.sign("x", make().public_key())
    pems = {
        "none": (), "nonsense": ("x",), "no authority": (leaf,), "too many": (authority.pem,) * 9,
        "two in one": (authority.pem * 2,),
    }[case]  # fmt: skip
    releases.release_authorities(*pems)
    answer = device.refresh()
    assert isinstance(answer, Refused)
    assert answer.code == "trust.authorities"
    assert ca_of(device) == authority.pem


def test_what_the_controller_says_of_authorities_counts_nothing(
    device: TrustingDevice, releases: Releases, authority: Authority
) -> None:
    """Whoever holds the controller and the broker, and no release keys, cannot swap them."""
    stranger = Authority("stranger")
    key = make_key(MakeKey(identity_dir=str(device.folder / "identity"), device=PI))
    with pytest.raises(AgentError) as caught:
        renew(device, stranger.sign_csr(key.csr_pem, PI))
    assert caught.value.code == "enrol.certificate.issuer"
    releases.release_authorities(authority.pem)
    for path in list(releases.files):
        if path.endswith(".authorities.json"):
            releases.files[path] = encode(Authorities(pem=(stranger.pem,)))
    answer = device.refresh()
    assert isinstance(answer, Refused)
    assert answer.code == "trust.manifest.digest"
    assert ca_of(device) == authority.pem


# -- renewal


def csr(device: TrustingDevice) -> str:
    return make_key(MakeKey(identity_dir=str(device.folder / "identity"), device=PI)).csr_pem


def renew(device: TrustingDevice, pem: str, name: DeviceId = PI) -> TrustNote:
    return store_certificate(
        StoreCertificate(
            identity_dir=str(device.folder / "identity"), trust_dir=str(device.folder / "trust"), device=name,
            certificate_pem=pem, wall_ms=device.wall_ms,
        )
    ).trust  # fmt: skip


def test_a_renewed_certificate_is_of_the_same_key(device: TrustingDevice, authority: Authority) -> None:
    key = (device.folder / "identity" / "key.pem").read_bytes()
    before = note_of(device).report.certificate_expires_ms or 0
    note = renew(device, authority.sign_csr(csr(device), PI, ends_days=200))
    assert (note.report.certificate_expires_ms or 0) - before == pytest.approx(20 * DAY_MS, abs=2000)
    assert note.is_of_newest
    assert (device.folder / "identity" / "key.pem").read_bytes() == key
    read = read_certificate(ReadCertificate(identity_dir=str(device.folder / "identity")))
    assert read.not_after_ms == note.report.certificate_expires_ms


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("older", "enrol.certificate.older"),
        ("of another key", "enrol.certificate.subject"),
        ("of another name", "enrol.certificate.subject"),
        ("of a stranger", "enrol.certificate.issuer"),
        ("nonsense", "enrol.certificate.issuer"),
        ("ended", "enrol.certificate.older"),
    ],
)
def test_a_certificate_that_is_not_good_leaves_the_one_that_was(
    device: TrustingDevice, authority: Authority, case: str, code: str, tmp_path: Path
) -> None:
    """What a stolen broker may bring: it must not take the device its identity."""
    other = make_key(MakeKey(identity_dir=str(tmp_path / "other"), device=PI)).csr_pem
    own = csr(device)
    if case == "ended":
        device.clock_days = 300
    pem = {
        "older": authority.sign_csr(own, PI, ends_days=170),
        "of another key": authority.sign_csr(other, PI, ends_days=200),
        "of another name": authority.sign_csr(own, "pi-2", ends_days=200),
        "of a stranger": Authority("first").sign_csr(own, PI, ends_days=200),
        "nonsense": "nonsense",
        "ended": authority.sign_csr(own, PI, ends_days=200),
    }[case]
    before = (device.folder / "identity" / "certificate.pem").read_bytes()
    with pytest.raises(AgentError) as caught:
        renew(device, pem)
    assert caught.value.code == code
    assert (device.folder / "identity" / "certificate.pem").read_bytes() == before


def test_a_rotation_of_authorities_step_by_step(
    device: TrustingDevice, releases: Releases, authority: Authority
) -> None:
    second = Authority("first")
    releases.release_authorities(second.pem, authority.pem)
    device.refreshes()
    shorter = second.sign_csr(csr(device), PI, ends_days=90)
    assert renew(device, shorter).is_of_newest, "of the newer authority, though it ends sooner"
    with pytest.raises(AgentError):
        renew(device, authority.sign_csr(csr(device), PI, ends_days=400))
    releases.release_authorities(second.pem)
    assert device.refreshes().trust.is_of_newest


# -- orders


def test_an_older_order_is_a_replay_whatever_became_of_the_record(device: TrustingDevice) -> None:
    old = device.releases.sign_desired(device.desired(generation=3, serial=1))
    device.accepts(generation=3, serial=2)
    device.refuses("trust.desired.replayed", old)
    device.accepts(generation=3, serial=2)
    assert load_order(device.folder / "trust" / "order.json") == Order(key_epoch=1, generation=3, serial=2)


@pytest.mark.parametrize(
    "changes", [{"generation": 2**63}, {"serial": 2**63}, {"generation": 2**80}, {"generation": -1}]
)
def test_numbers_that_no_database_holds_are_refused(device: TrustingDevice, changes: dict[str, int]) -> None:
    device.refuses("trust.desired.order", None, **changes)
    assert load_order(device.folder / "trust" / "order.json") == Order()


def test_the_highest_number_of_a_thief_ends_with_the_epoch(
    device: TrustingDevice, releases: Releases
) -> None:
    """A stolen assignment key takes the last number there is: a new key begins anew."""
    device.accepts(generation=2**63 - 1, serial=2**63 - 1)
    device.refuses("trust.desired.replayed", generation=7)
    thief = releases.assignment
    releases.assignment = Ed25519PrivateKey.generate()
    releases.release_key(2)
    device.accepts(key_epoch=2, generation=1)
    assert device.refreshes().trust.report.key_epoch == 2
    honest, releases.assignment = releases.assignment, thief
    for epoch in (1, 2):
        device.refuses("trust.desired.signature", key_epoch=epoch, generation=2**63 - 1)
    releases.assignment = honest
    device.accepts(key_epoch=2, generation=2)


def test_a_thief_does_not_take_a_device_without_a_clock_into_the_future(device: TrustingDevice) -> None:
    """The floor would outlive the rotation of the key."""
    device.clock_days = None
    far_ms = device.desired().issued_ms + 20_000 * DAY_MS
    device.refuses("trust.desired.future", issued_ms=far_ms, expires_ms=far_ms + DAY_MS, generation=5)
    device.accepts(generation=1)


def test_neither_does_a_thief_of_the_keys_that_the_controller_signs_with_by_itself(
    device: TrustingDevice, releases: Releases
) -> None:
    """They date timestamps, snapshots and orders as they like; the root and the targets are not theirs."""
    device.clock_days = None
    now_ms, honest = device.desired().issued_ms, (releases.snapshot.expires, releases.timestamp.expires)
    releases.snapshot.expires = releases.timestamp.expires = far(20_000)
    releases.timestamp_fields["issued_ms"] = now_ms + 10_000 * DAY_MS
    releases.publish()
    far_ms = now_ms + 10_000 * DAY_MS
    device.refuses("trust.desired.future", issued_ms=far_ms, expires_ms=far_ms + DAY_MS, generation=5)
    releases.snapshot.expires, releases.timestamp.expires = honest
    releases.timestamp_fields["issued_ms"] = now_ms
    releases.publish()
    device.accepts(generation=1)


def test_a_clock_that_is_believed_is_not_walked_into_the_future_a_day_at_a_time(
    device: TrustingDevice, releases: Releases
) -> None:
    now_ms = device.desired().issued_ms
    ahead_ms = now_ms + 20 * DAY_MS // 24
    releases.timestamp_fields["issued_ms"] = ahead_ms
    releases.publish()
    device.accepts(issued_ms=ahead_ms)
    assert load_floor_ms(device.folder / "trust" / "floor.json") < now_ms + DAY_MS // 24


def test_damaged_notes_are_as_good_as_none(device: TrustingDevice) -> None:
    for name in ("order.json", "report.json", "floor.json"):
        for bad in (b"", b"{}", b"\xff", b'{"generation":"x"}'):
            (device.folder / "trust" / name).write_bytes(bad)
            device.accepts(generation=4)
    assert (
        msgspec.json.decode((device.folder / "trust" / "order.json").read_bytes(), type=Order).generation == 4
    )
