"""What the trust child refuses: a real repository over real HTTP, tampered with."""

import functools
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from fleet_agent.trust.protocol import (
    AcceptEnrolment,
    DesiredVerified,
    EnrolmentAccepted,
    KeyMade,
    MakeKey,
    Refused,
    Repository,
    TrustAnswer,
    VerifyDesired,
)
from fleet_agent.trust_process import TrustProcess
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_shared.messages.desired import Desired, RunEntry
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, digest_of
from tests.kit.device_edges import make_manifest
from tests.kit.trust_here import ask_here

PI = DeviceId("pi-1")
YEAR_MS = 365 * 24 * 3600 * 1000


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        return


@dataclass
class Lab:
    trust: ControllerTrust
    folder: Path
    device: Path
    url: str
    manifest: Digest

    def desired(self, **changes: object) -> Desired:
        now_ms = int(time.time() * 1000)
        entry = RunEntry(
            model=ModelName("m"), version="1.0.0", manifest=self.manifest, assignment=AssignmentId("a")
        )
        desired = Desired(
            device=PI, key_epoch=1, generation=1, serial=0, issued_ms=now_ms, expires_ms=now_ms + YEAR_MS,
            run=(entry,),
        )  # fmt: skip
        return msgspec.structs.replace(desired, **changes)

    @property
    def repository(self) -> Repository:
        return Repository(metadata_url=f"{self.url}/metadata", targets_url=f"{self.url}/targets")

    def request(self, envelope: bytes, wall_ms: int | None) -> VerifyDesired:
        return VerifyDesired(
            identity_dir=str(self.device / "identity"),
            trust_dir=str(self.device / "trust"),
            device=PI,
            repository=self.repository,
            envelope=envelope,
            wall_ms=wall_ms,
        )

    def ask(self, envelope: bytes, wall_ms: int | None = None) -> TrustAnswer:
        return ask_here(self.request(envelope, int(time.time() * 1000) if wall_ms is None else wall_ms))


def accept(lab: ControllerTrust, device: Path, **changes: str) -> TrustAnswer:
    key = ask_here(MakeKey(identity_dir=str(device / "identity"), device=PI))
    assert isinstance(key, KeyMade), key
    request = AcceptEnrolment(
        identity_dir=str(device / "identity"),
        trust_dir=str(device / "trust"),
        device=PI,
        ca_sha256=digest_of(lab.authority.ca_pem.encode()),
        root_sha256=digest_of(lab.authority.root_json.encode()),
        certificate_pem=lab.authority.sign_csr(key.csr_pem, PI),
        ca_pem=lab.authority.ca_pem,
        root_json=lab.authority.root_json,
    )
    return ask_here(msgspec.structs.replace(request, **changes))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    folder = tmp_path / "controller"
    trust = ControllerTrust(folder)
    raw = make_manifest("1.0.0")
    trust.release({digest_of(raw): raw})
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert isinstance(accept(trust, tmp_path / "device"), EnrolmentAccepted)
    url = f"http://127.0.0.1:{server.server_port}"
    yield Lab(trust, folder, tmp_path / "device", url, digest_of(raw))
    server.shutdown()
    thread.join()
    server.server_close()


def refused(answer: TrustAnswer, code: str) -> Refused:
    assert isinstance(answer, Refused), answer
    assert answer.code == code, answer
    return answer


def test_a_released_and_assigned_model_is_accepted(lab: Lab) -> None:
    answer = lab.ask(lab.trust.sign_desired(lab.desired()))
    assert isinstance(answer, DesiredVerified), answer
    assert not answer.expired
    assert set(answer.manifests) == {lab.manifest}


def test_a_child_process_says_the_same(lab: Lab, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    good = lab.request(lab.trust.sign_desired(lab.desired()), now_ms)
    child, here = TrustProcess().ask(good), ask_here(good)
    assert isinstance(child, DesiredVerified)
    assert isinstance(here, DesiredVerified)
    assert (child.desired, child.manifests) == (here.desired, here.manifests)
    bad = lab.request(ControllerTrust(tmp_path / "stranger").sign_desired(lab.desired()), now_ms)
    assert TrustProcess().ask(bad) == ask_here(bad)


def test_a_foreign_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    stranger = ControllerTrust(tmp_path / "stranger")
    refused(lab.ask(stranger.sign_desired(lab.desired())), "trust.desired.signature")


def test_a_changed_payload_is_refused(lab: Lab) -> None:
    envelope = json.loads(lab.trust.sign_desired(lab.desired()))
    other = json.loads(lab.trust.sign_desired(lab.desired(generation=99)))
    forged = json.dumps({**envelope, "payload": other["payload"]}).encode()
    refused(lab.ask(forged), "trust.desired.signature")
    retyped = json.dumps({**envelope, "payloadType": "application/other"}).encode()
    refused(lab.ask(retyped), "trust.desired.type")
    for garbage in (b"", b"{}", b"[]", b"\xff", b'{"payload":1,"payloadType":2,"signatures":3}'):
        refused(lab.ask(garbage), "trust.envelope.malformed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"device": "pi-2"}, "trust.desired.device"),
        ({"key_epoch": 2}, "trust.desired.epoch"),
        ({"critical": ("run", "teleport")}, "trust.desired.critical"),
    ],
)
def test_a_desired_state_for_somebody_else_is_refused(
    lab: Lab, changes: dict[str, object], code: str
) -> None:
    refused(lab.ask(lab.trust.sign_desired(lab.desired(**changes))), code)


def test_an_assigned_but_not_released_model_is_refused(lab: Lab) -> None:
    entry = RunEntry(
        model=ModelName("m"), version="1.0.0", manifest=Digest("e" * 64), assignment=AssignmentId("a")
    )
    refused(lab.ask(lab.trust.sign_desired(lab.desired(run=(entry,)))), "trust.manifest.unreleased")


def test_a_manifest_of_another_version_is_refused(lab: Lab) -> None:
    entry = msgspec.structs.replace(lab.desired().run[0], version="2.0.0")
    refused(lab.ask(lab.trust.sign_desired(lab.desired(run=(entry,)))), "trust.manifest.mismatch")


def test_a_manifest_changed_on_the_server_is_refused(lab: Lab) -> None:
    for file in (lab.folder / "targets" / "manifests").iterdir():
        file.write_bytes(file.read_bytes().replace(b'"m"', b'"n"'))
    refused(lab.ask(lab.trust.sign_desired(lab.desired())), "trust.manifest.digest")


def test_metadata_that_is_tampered_with_or_rolled_back_is_refused(lab: Lab) -> None:
    envelope = lab.trust.sign_desired(lab.desired())
    timestamp = lab.folder / "metadata" / "timestamp.json"
    old = timestamp.read_bytes()
    lab.trust.release({Digest("f" * 64): b"{}"})
    assert isinstance(lab.ask(envelope), DesiredVerified)
    timestamp.write_bytes(old)
    assert refused(lab.ask(envelope), "trust.metadata.older").retry, "a mirror that lags catches up"
    forged = json.loads(old)
    forged["signed"]["version"] = 99
    timestamp.write_text(json.dumps(forged))
    refused(lab.ask(envelope), "trust.metadata.invalid")


def test_an_expired_desired_state_is_verified_but_said_to_be_expired(lab: Lab) -> None:
    answer = lab.ask(lab.trust.sign_desired(lab.desired(expires_ms=1)))
    assert isinstance(answer, DesiredVerified)
    assert answer.expired
    assert answer.manifests == {}


def test_a_device_that_boots_in_1970_judges_by_what_it_has_seen_signed(lab: Lab) -> None:
    seen = lab.ask(lab.trust.sign_desired(lab.desired()))
    assert isinstance(seen, DesiredVerified)
    answer = lab.ask(lab.trust.sign_desired(lab.desired(expires_ms=seen.now_ms - 1)), wall_ms=0)
    assert isinstance(answer, DesiredVerified)
    assert answer.expired, "the floor was forgotten"


def test_metadata_that_ended_long_ago_is_refused(lab: Lab) -> None:
    far_ms = int(time.time() * 1000) + 400 * 24 * 3600 * 1000
    answer = lab.ask(lab.trust.sign_desired(lab.desired()), wall_ms=far_ms)
    assert refused(answer, "trust.metadata.expired").retry, "a wrong clock is corrected one day"


def test_a_controller_that_is_away_is_a_passing_trouble(lab: Lab) -> None:
    lab.url = "http://127.0.0.1:9"
    assert refused(lab.ask(lab.trust.sign_desired(lab.desired())), "trust.metadata.unreachable").retry


def test_a_document_from_the_future_does_not_take_the_device_hostage(lab: Lab) -> None:
    day_ms = 24 * 3600 * 1000
    now_ms = int(time.time() * 1000)
    ahead = lab.desired(issued_ms=now_ms + 400 * day_ms, expires_ms=now_ms + 500 * day_ms)
    refused(lab.ask(lab.trust.sign_desired(ahead)), "trust.desired.future")
    today = lab.ask(lab.trust.sign_desired(lab.desired()))
    assert isinstance(today, DesiredVerified), "the floor was raised by a refused document"
    assert not today.expired
    skewed = lab.desired(issued_ms=now_ms + day_ms // 2)
    assert isinstance(lab.ask(lab.trust.sign_desired(skewed)), DesiredVerified)


def test_without_a_clock_that_is_believed_the_document_says_what_time_it_is(lab: Lab) -> None:
    now_ms = int(time.time() * 1000)
    envelope = lab.trust.sign_desired(lab.desired(issued_ms=now_ms, expires_ms=now_ms + YEAR_MS))
    answer = ask_here(lab.request(envelope, wall_ms=None))
    assert isinstance(answer, DesiredVerified)
    assert now_ms <= answer.now_ms <= int(time.time() * 1000), "the time since then counts as well"


def test_a_disk_that_cannot_be_written_is_no_verdict(lab: Lab) -> None:
    envelope = lab.trust.sign_desired(lab.desired())
    target = lab.device / "trust" / "targets" / f"manifests_{lab.manifest}.json"
    target.parent.mkdir()
    target.symlink_to("/dev/full")
    full = refused(lab.ask(envelope), "disk.full")
    assert full.retry
    assert "full" in full.message
    target.unlink()
    timestamp = lab.device / "trust" / "metadata" / "timestamp.json"
    timestamp.unlink()
    timestamp.mkdir()
    odd = refused(lab.ask(envelope), "trust.storage")
    assert odd.retry
    assert "tampering" not in odd.hint
    timestamp.rmdir()
    assert isinstance(lab.ask(envelope), DesiredVerified)


def test_a_floor_that_cannot_be_written_is_a_passing_trouble_too(lab: Lab) -> None:
    floor = lab.device / "trust" / "floor.json"
    floor.mkdir()
    assert refused(lab.ask(lab.trust.sign_desired(lab.desired())), "trust.storage").retry


def test_a_missing_root_is_a_verdict(lab: Lab) -> None:
    (lab.device / "trust" / "root.json").unlink()
    answer = refused(lab.ask(lab.trust.sign_desired(lab.desired())), "trust.root")
    assert not answer.retry
    assert "enrol" in answer.hint


def test_targets_of_other_versions_and_half_written_metadata_are_removed(lab: Lab) -> None:
    envelope = lab.trust.sign_desired(lab.desired())
    assert isinstance(lab.ask(envelope), DesiredVerified)
    trust = lab.device / "trust"
    kept = sorted(file.name for file in (trust / "targets").iterdir())
    assert len(kept) == 2
    (trust / "targets" / f"manifests_{'e' * 64}.json").write_bytes(b"{}")
    (trust / "metadata" / "tmpabc123").write_bytes(b"{")
    refused(lab.ask(lab.trust.sign_desired(lab.desired(critical=("teleport",)))), "trust.desired.critical")
    assert len(list((trust / "targets").iterdir())) == 3, "only a success removes"
    assert isinstance(lab.ask(envelope), DesiredVerified)
    assert sorted(file.name for file in (trust / "targets").iterdir()) == kept
    assert not list((trust / "metadata").glob("tmp*"))


def test_an_impostor_is_refused_at_enrolment_and_nothing_is_stored(tmp_path: Path) -> None:
    lab, stranger = ControllerTrust(tmp_path / "lab"), ControllerTrust(tmp_path / "stranger")
    device = tmp_path / "device"
    refused(accept(lab, device, ca_sha256="0" * 64), "enrol.ca.mismatch")
    refused(accept(lab, device, root_sha256="0" * 64), "enrol.root.mismatch")
    key = ask_here(MakeKey(identity_dir=str(device / "identity"), device=PI))
    assert isinstance(key, KeyMade)
    foreign = stranger.authority.sign_csr(key.csr_pem, PI)
    refused(accept(lab, device, certificate_pem=foreign), "enrol.certificate.issuer")
    other = ask_here(MakeKey(identity_dir=str(tmp_path / "other"), device=PI))
    assert isinstance(other, KeyMade)
    wrong = lab.authority.sign_csr(other.csr_pem, PI)
    refused(accept(lab, device, certificate_pem=wrong), "enrol.certificate.subject")
    assert not (device / "trust" / "root.json").exists()
    assert [file.name for file in (device / "identity").iterdir()] == ["key.pem"]
    assert (device / "identity" / "key.pem").stat().st_mode & 0o777 == 0o600
