"""Every route once with good input, with unknown things and with bad bodies, over real parts."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from httpx import Client, Response

from fleet_shared.messages.reported import Reported
from fleet_shared.names import DeviceId, Digest
from fleet_shared.token import EnrolmentToken
from tests.cloud.domain.test_rules import FACTS, variant
from tests.kit.api import BLOB_BYTES_MAX, Api, running_api
from tests.kit.people import BEARER

V1 = "/api/v1"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[Client]:
    with Client(base_url=api.url, timeout=60, headers=BEARER) as client:
        yield client


def expect(response: Response, status: int, code: str) -> None:
    """A problem document with its code and a hint."""
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["hint"]
    assert problem["detail"]


def put(http: Client, content: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    assert http.put(f"{V1}/blobs/{sha256}", content=content).status_code in (200, 201)
    return {"sha256": sha256, "size_bytes": len(content)}


def draft(http: Client, content: bytes, **more: Any) -> dict[str, Any]:
    contract = msgspec.to_builtins(variant("int8", 1).manifest.contract)
    blobs = {"model": put(http, content), "golden": put(http, b"golden")}
    return {"variants": [{"name": "int8", "contract": contract, "blobs": blobs}], **more}


def register(http: Client, model: str, content: bytes, **more: Any) -> Response:
    return http.post(f"{V1}/models/{model}/versions", json=draft(http, content, **more))


def enrol(http: Client, device: str, token: str | None = None, name: str | None = None) -> Response:
    if token is None:
        token = http.post(f"{V1}/enrolment-tokens", json={"labels": {"site": "berlin"}}).json()["token"]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or device)])
    key = generate_private_key(SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    request = {
        "secret": EnrolmentToken.parse(token).secret,
        "device": device,
        "csr_pem": csr.public_bytes(Encoding.PEM).decode(),
    }
    return http.post(f"{V1}/enrolments", json=request)


def report(api: Api, device: DeviceId) -> None:
    """Let the device say that it can run anything."""
    with api.uow.begin() as transaction:
        known = transaction.devices.get(device)
        assert known is not None
        facts = msgspec.structs.replace(FACTS, memory_bytes=10**9)
        transaction.devices.put(replace(known, reported=Reported(session="s", facts=facts)))


def test_health_and_status(http: Client) -> None:
    assert http.get(f"{V1}/health").json()["status"] == "ok"
    assert http.get(f"{V1}/status").json()["models"] == 0


def test_a_device_enrols_and_gets_labels(http: Client) -> None:
    token = http.post(f"{V1}/enrolment-tokens", json={"labels": {"site": "berlin"}}).json()["token"]
    assert enrol(http, "pi-1", token).json()["device"] == "pi-1"
    expect(enrol(http, "pi-2", token), 403, "enrol.token.used")
    expect(enrol(http, "pi-1"), 409, "enrol.device.exists")
    expect(enrol(http, "pi-2", name="pi-3"), 422, "enrol.csr")
    expect(enrol(http, "No"), 422, "name.invalid")
    device = http.get(f"{V1}/devices/pi-1").json()
    assert device["labels"] == {"site": "berlin"}
    changed = http.patch(f"{V1}/devices/pi-1/labels", json={"set": {"hw": "rpi4"}, "remove": ["site"]})
    assert changed.json()["labels"] == {"hw": "rpi4"}
    expect(http.patch(f"{V1}/devices/pi-9/labels", json={"set": {"a": "b"}}), 404, "device.unknown")
    expect(http.patch(f"{V1}/devices/pi-1/labels", json={"set": {"a": "\0"}}), 422, "name.invalid")
    expect(http.get(f"{V1}/devices/pi-9"), 404, "device.unknown")
    expect(http.get(f"{V1}/devices/%00"), 422, "name.invalid")


def test_labels_and_lives_have_limits(http: Client) -> None:
    many = {f"k{number}": "v" for number in range(500)}
    expect(http.post(f"{V1}/enrolment-tokens", json={"labels": many}), 422, "label.too_many")
    enrol(http, "pi-1")
    expect(http.patch(f"{V1}/devices/pi-1/labels", json={"set": many}), 422, "request.invalid")
    some = dict(list(many.items())[:63])
    assert http.patch(f"{V1}/devices/pi-1/labels", json={"set": some}).status_code == 200
    expect(http.patch(f"{V1}/devices/pi-1/labels", json={"set": {"a": "b"}}), 422, "label.too_many")
    for life_s in (10**18, 10**30, 0, -5):
        expect(http.post(f"{V1}/enrolment-tokens", json={"life_s": life_s}), 422, "request.invalid")


def test_devices_are_paged(http: Client) -> None:
    for name in ("pi-1", "pi-2", "pi-3"):
        enrol(http, name)
    first = http.get(f"{V1}/devices", params={"limit": 2}).json()
    assert [device["id"] for device in first["items"]] == ["pi-1", "pi-2"]
    rest = http.get(f"{V1}/devices", params={"after": first["next"], "selector": "site=berlin"}).json()
    assert ([device["id"] for device in rest["items"]], rest["next"]) == (["pi-3"], None)
    expect(http.get(f"{V1}/devices", params={"selector": "site in"}), 422, "selector.invalid")
    expect(http.get(f"{V1}/devices", params={"limit": 0}), 422, "request.invalid")
    expect(http.get(f"{V1}/devices", params={"after": "\0"}), 422, "request.invalid")


def test_blobs_in_and_out(http: Client) -> None:
    body = bytes(range(256)) * 1000
    sha256 = hashlib.sha256(body).hexdigest()
    path = f"{V1}/blobs/{sha256}"
    expect(http.get(path), 404, "blob.unknown")
    assert http.head(path).status_code == 404
    assert http.put(path, content=body).status_code == 201
    assert http.put(path, content=body).status_code == 200
    assert http.head(path).headers["Content-Length"] == str(len(body))
    assert http.get(path).content == body
    part = http.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, body[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(body)}"
    assert http.get(path, headers={"Range": f"bytes={len(body)}-"}).status_code == 416
    assert http.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200
    assert http.get(path, headers={"Range": f"bytes={'9' * 5000}-"}).status_code == 200
    expect(http.put(f"{V1}/blobs/{'0' * 64}", content=b"other"), 422, "blob.digest")
    expect(http.put(f"{V1}/blobs/{'1' * 64}", content=bytes(BLOB_BYTES_MAX + 1)), 413, "blob.too_large")
    expect(http.put(f"{V1}/blobs/nonsense", content=b"x"), 422, "name.invalid")
    empty = put(http, b"")
    assert http.get(f"{V1}/blobs/{empty['sha256']}").content == b""


def test_signed_addresses_of_blobs(http: Client, api: Api) -> None:
    blob = put(http, b"content")
    url = api.blobs.signer.sign(Digest(blob["sha256"]), DeviceId("pi-1"), 60)
    assert http.get(url, headers={"Host": "controller.example"}).content == b"content"
    expect(http.get(url.replace("pi-1", "pi-2")), 403, "blob.url.signature")
    expect(
        http.get(f"{V1}/blobs/{blob['sha256']}?device=a&signature=b&expires={'9' * 30}"),
        403,
        "blob.url.signature",
    )
    expect(
        http.get(f"{V1}/blobs/{blob['sha256']}?device=a&signature=b&expires={'9' * 5000}"),
        422,
        "request.invalid",
    )
    old = api.blobs.signer.sign(Digest(blob["sha256"]), DeviceId("pi-1"), -60)
    expect(http.get(old), 403, "blob.url.expired")


def test_versions_are_registered_listed_and_paged(http: Client) -> None:
    created = register(http, "tiny", b"one")
    assert (created.status_code, created.json()["version"]) == (201, "1.0.0")
    assert register(http, "tiny", b"one").status_code == 200
    assert register(http, "tiny", b"two").json()["version"] == "1.1.0"
    register(http, "other", b"one")
    expect(register(http, "tiny", b"three", version="1.1.0"), 409, "model.version.exists")
    expect(register(http, "tiny", b"two", version="1.9.0"), 409, "model.content.exists")
    expect(register(http, "tiny", b"three", version="9" * 5000), 422, "name.invalid")
    expect(register(http, "No Name", b"one"), 422, "name.invalid")
    assert http.get(f"{V1}/models/tiny/versions/1.0.0").json()["variants"][0]["name"] == "int8"
    expect(http.get(f"{V1}/models/tiny/versions/9.0.0"), 404, "model.version.unknown")
    expect(http.get(f"{V1}/models/tiny/versions/x"), 422, "name.invalid")
    expect(http.get(f"{V1}/models/tinny"), 404, "model.unknown")
    page = http.get(f"{V1}/models", params={"limit": 1}).json()
    assert ([v["model"] for v in page["items"]], page["next"]) == (["other"], "other")
    page = http.get(f"{V1}/models", params={"after": "other"}).json()
    assert ([(v["model"], v["version"]) for v in page["items"]], page["next"]) == ([("tiny", "1.1.0")], None)
    page = http.get(f"{V1}/models/tiny", params={"limit": 1}).json()
    assert ([v["version"] for v in page["items"]], page["next"]) == (["1.1.0"], "1.1.0")
    page = http.get(f"{V1}/models/tiny", params={"after": "1.1.0"}).json()
    assert [v["version"] for v in page["items"]] == ["1.0.0"]
    expect(http.get(f"{V1}/models", params={"after": "nothing"}), 404, "page.unknown")


@pytest.mark.parametrize("sha256", ["/etc/hostname", "../../fleet.db", "a\0b", "", "0" * 63, "A" * 64])
def test_a_digest_of_a_draft_is_no_path(http: Client, tmp_path: Path, sha256: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hush" * 100)
    given = draft(http, b"one")
    before = sorted((tmp_path / "blobs").rglob("*"))
    for name in (sha256, str(secret)):
        given["variants"][0]["blobs"]["model"] = {"sha256": name, "size_bytes": secret.stat().st_size}
        expect(http.post(f"{V1}/models/m/versions", json=given), 422, "name.invalid")
    assert sorted((tmp_path / "blobs").rglob("*")) == before


def test_drafts_that_are_none(http: Client) -> None:
    path = f"{V1}/models/m/versions"
    missing = draft(http, b"one")
    missing["variants"][0]["blobs"]["model"] = {"sha256": "0" * 64, "size_bytes": 3}
    expect(http.post(path, json=missing), 422, "model.blob.missing")
    expect(http.post(path, json={"variants": []}), 422, "model.variants")
    for body in (b"", b"no json", b"[" * 100_000, b"\xff", b'{"variants": 5}', b'{"variants": [], "x": 1}'):
        expect(
            http.post(path, content=body, headers={"Content-Type": "application/json"}),
            422,
            "request.invalid",
        )
    expect(http.post(path, json={"lineage": {"x": "y" * 9_000_000}}), 413, "request.too_large")


def test_a_rollout_from_request_to_history(http: Client, api: Api) -> None:
    register(http, "tiny", b"one")
    enrol(http, "pi-1")
    report(api, DeviceId("pi-1"))
    request = {"model": "tiny", "selector": "site=berlin"}
    created = [http.post(f"{V1}/rollouts", json=request).json() for _ in range(3)]
    assert api.woken
    api.tick.run()
    shown = http.get(f"{V1}/rollouts/{created[0]['id']}").json()
    (assignment,) = shown["assignments"]
    changes = http.get(f"{V1}/assignments/{assignment['id']}/history").json()
    assert changes["items"]
    assert changes["next"] is None
    pages = [http.get(f"{V1}/assignments/{assignment['id']}/history", params={"limit": 1}).json()]
    while pages[-1]["next"] is not None:
        following = {"limit": 1, "after": pages[-1]["next"]}
        pages.append(http.get(f"{V1}/assignments/{assignment['id']}/history", params=following).json())
    assert [page["items"][0] for page in pages] == changes["items"]
    newest = http.get(f"{V1}/rollouts", params={"limit": 2}).json()
    rest = http.get(f"{V1}/rollouts", params={"limit": 2, "after": newest["next"]}).json()
    assert {r["id"] for r in newest["items"] + rest["items"]} == {r["id"] for r in created}
    assert rest["next"] is None
    expect(http.get(f"{V1}/rollouts/nothing"), 404, "rollout.unknown")
    expect(http.get(f"{V1}/rollouts/%00"), 404, "rollout.unknown")
    expect(http.get(f"{V1}/assignments/nothing/history"), 404, "assignment.unknown")
    expect(http.get(f"{V1}/assignments/%00/history"), 404, "assignment.unknown")
    expect(http.post(f"{V1}/rollouts", json={**request, "selector": "site=nowhere"}), 422, "rollout.empty")
    expect(http.post(f"{V1}/rollouts", json={**request, "selector": "site in"}), 422, "selector.invalid")
    expect(http.post(f"{V1}/rollouts", json={**request, "model": "other"}), 404, "model.unknown")
    expect(http.post(f"{V1}/rollouts", json={**request, "variant": "int4"}), 404, "model.variant.unknown")
    for wrong in ({"soak_s": -1}, {"soak_s": 1e300}, {"deadline_s": 0}, {"deadline_s": 1e18}):
        expect(http.post(f"{V1}/rollouts", json={**request, "policy": wrong}), 422, "rollout.policy")
    expect(http.post(f"{V1}/rollouts", json={**request, "policy": {"soaks": 1}}), 422, "request.invalid")
    expect(http.post(f"{V1}/rollouts", json={**request, "x": 1}), 422, "request.invalid")


def test_telemetry_of_a_device(http: Client) -> None:
    enrol(http, "pi-1")
    base = f"{V1}/devices/pi-1"
    assert http.get(f"{base}/telemetry").json() == []
    assert http.get(f"{base}/events").json() == []
    assert http.get(f"{base}/telemetry/totals").json()["lost"] == 0
    for path in ("telemetry", "events"):
        expect(http.get(f"{base}/{path}", params={"since_ms": "9" * 30}), 422, "request.invalid")
        assert http.get(f"{base}/{path}", params={"since_ms": -5}).status_code == 200
    expect(http.get(f"{base}/telemetry", params={"source": "\0"}), 422, "request.invalid")
    for path in ("telemetry", "events", "telemetry/totals"):
        expect(http.get(f"{V1}/devices/pi-9/{path}"), 404, "device.unknown")


def test_releases_are_public_and_nothing_else_is(http: Client, tmp_path: Path) -> None:
    register(http, "tiny", b"one")
    assert http.get("/releases/metadata/timestamp.json").status_code == 200
    (manifest,) = (tmp_path / "trust" / "targets" / "manifests").iterdir()
    assert http.get(f"/releases/targets/manifests/{manifest.name}").content == manifest.read_bytes()
    for path in (
        "metadata/%00", f"metadata/{'x' * 300}", "metadata", "metadata/9.root.json", "keys/ca.pem",
        "metadata/..%2Fkeys/ca.pem", "metadata/%2E%2E/keys/ca.pem", "targets//etc/passwd",
        quote("metadata/ä"),
    ):  # fmt: skip
        expect(http.get(f"/releases/{path}"), 404, "release.unknown")


def test_what_the_framework_refuses_is_a_problem_document_too(http: Client) -> None:
    wrong = http.delete(f"{V1}/models")
    expect(wrong, 405, "http.405")
    assert wrong.headers["Allow"] == "GET"
    expect(http.get("/nothing"), 404, "http.404")
    headers = {"Content-Type": "application/json"}
    long = http.post(f"{V1}/enrolments", content=b"x" * 300_000, headers=headers)
    expect(long, 413, "request.too_large")
    expect(http.post(f"{V1}/enrolments", json={}), 422, "message.invalid")
