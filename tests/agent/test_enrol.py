"""Enrolment as a person types it: every trouble is one error with a code and a hint."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from fleet_agent import cli
from fleet_agent.enrol import enrol
from fleet_agent.errors import EnrolmentError
from fleet_agent.identity import load_identity
from fleet_agent.orders import load_order, raise_order
from fleet_agent.paths import StatePaths
from fleet_agent.update.record import RecordFile
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.token import EnrolmentToken
from fleet_shared.wire import decode, encode
from tests.agent.test_install import record
from tests.kit.ports import free_port

PI = DeviceId("pi-1")
TOKEN = EnrolmentToken(secret="s", ca_sha256=digest_of(b"ca"), root_sha256=digest_of(b"root"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from fleet_agent.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def expect(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1, done
    assert f"error[{code}]" in done.stderr, done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@contextmanager
def controller(
    *answers: tuple[int, bytes], trust: ControllerTrust | None = None
) -> Iterator[tuple[str, list[int]]]:
    """A controller that gives these answers, then enrols with the authority of ``trust``."""
    waiting, given = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, document = waiting.pop(0) if waiting else (200, accept(trust, body))
            given.append(status)
            self.send_response(status)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", given
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def accept(trust: ControllerTrust | None, body: bytes) -> bytes:
    assert trust is not None, "nobody may ask again"
    request = decode(EnrolRequest, body)
    reply = EnrolReply(
        device=request.device, certificate_pem=trust.authority.sign_csr(request.csr_pem, request.device),
        ca_pem=trust.authority.ca_pem, root_json=trust.authority.root_json, metadata_path="/m",
        targets_path="/t", topic_root="fleet/v1", broker=BrokerAddress(port=1883),
    )  # fmt: skip
    return encode(reply)


def token_of(trust: ControllerTrust) -> EnrolmentToken:
    return EnrolmentToken(
        secret="s",
        ca_sha256=digest_of(trust.authority.ca_pem.encode()),
        root_sha256=digest_of(trust.authority.root_json.encode()),
    )


def problem(status: int, code: str) -> tuple[int, bytes]:
    return status, json.dumps({"detail": "not now", "code": code, "hint": "wait"}).encode()


def test_a_controller_that_starts_is_waited_for(tmp_path: Path) -> None:
    trust = ControllerTrust(tmp_path / "controller")
    busy = problem(503, "controller.starting")
    with controller(busy, (502, b"<html>a proxy</html>"), trust=trust) as (url, given):
        enrol(url, token_of(trust), PI, StatePaths(tmp_path / "state"), wait_s=60)
    assert given == [503, 502, 200]
    identity = load_identity(tmp_path / "state" / "identity")
    assert (identity.device, identity.controller_url, identity.broker.host) == (PI, url, "127.0.0.1")


def test_another_controller_is_not_held_to_the_orders_of_the_one_before(tmp_path: Path) -> None:
    """One that was set up anew begins with key epoch 1: below what its predecessor came to, it could assign
    nothing to its own devices."""
    paths, before = StatePaths(tmp_path / "state"), Order(key_epoch=3, generation=7)
    first, second = ControllerTrust(tmp_path / "first"), ControllerTrust(tmp_path / "second")
    accepted = {}
    for name, trust in (("first", first), ("again", first), ("second", second)):
        shutil.rmtree(paths.identity, ignore_errors=True)
        with controller(trust=trust) as (url, _given):
            enrol(url, token_of(trust), PI, paths, wait_s=60)
        if name == "first":
            raise_order(paths.order, before)
            RecordFile(paths.record).save(msgspec.structs.replace(record(), accepted=before))
        found = RecordFile(paths.record).load()
        assert found is not None
        accepted[name] = (load_order(paths.order), found.accepted)
    assert accepted == {"first": (before, before), "again": (before, before), "second": (Order(), Order())}


@pytest.mark.parametrize("wait_s", [0.0, float("nan")])
def test_without_waiting_the_reason_is_told_at_once(tmp_path: Path, wait_s: float) -> None:
    with (
        controller(problem(503, "controller.starting")) as (url, given),
        pytest.raises(EnrolmentError) as caught,
    ):
        enrol(url, TOKEN, PI, StatePaths(tmp_path), wait_s=wait_s)
    assert (caught.value.code, caught.value.hint, given) == ("controller.starting", "wait", [503])


def test_a_refusal_is_not_waited_for(tmp_path: Path) -> None:
    refusal = problem(409, "enrol.token.used")
    with controller(refusal) as (url, given), pytest.raises(EnrolmentError) as caught:
        enrol(url, TOKEN, PI, StatePaths(tmp_path), wait_s=60)
    assert (caught.value.code, given) == ("enrol.token.used", [409])


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b"\xff", b"<html>"])
@pytest.mark.parametrize("status", [200, 404])
def test_what_is_no_controller_is_said_to_be_none(tmp_path: Path, status: int, body: bytes) -> None:
    with controller((status, body)) as (url, _), pytest.raises(EnrolmentError) as caught:
        enrol(url, TOKEN, PI, StatePaths(tmp_path), wait_s=0)
    assert caught.value.code == ("enrol.url" if status == 200 else "enrol.refused")


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://h:70000", "http://h:x", "ftp://h", "h", "", "http://", "http://u:p@h", "http://h?x=1",
     "http://h#x", "http://h\nx", "http://h:0"],
)  # fmt: skip
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(EnrolmentError) as caught:
        enrol(url, TOKEN, PI, StatePaths(tmp_path), wait_s=0)
    assert caught.value.code == "enrol.url"
    assert list(tmp_path.iterdir()) == []


def test_a_person_gets_one_error_and_no_traceback(tmp_path: Path) -> None:
    words = ["--token", str(TOKEN), "--id", "pi-1"]
    state = ["--state", str(tmp_path / "state")]
    expect(run("enrol", "http://[::1", *words, *state), "enrol.url")
    expect(run("enrol", f"http://127.0.0.1:{free_port()}", *words, *state), "controller.unreachable")
    expect(run("enrol", "http://h", *words, "--state", "/dev/null/x"), "agent.state")
    (tmp_path / "state" / "identity" / "key.pem").unlink()
    (tmp_path / "state" / "identity").rmdir()
    (tmp_path / "state" / "identity").write_text("a file")
    expect(run("enrol", "http://127.0.0.1:9", *words, *state), "agent.state")
    expect(run("run", *state), "identity.damaged")
    expect(run("run", *state, "--http-port", "70000"), "settings.invalid")


def test_a_lock_or_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    expect(run("run", "--state", str(tmp_path)), "agent.state")
    (tmp_path / "identity" / "key.pem").mkdir(parents=True)
    words = ["--token", str(TOKEN), "--id", "pi-1", "--state", str(tmp_path)]
    expect(run("enrol", "http://127.0.0.1:9", *words), "enrol.key")


def test_a_defect_is_reported_to_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def defect() -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(cli, "app", defect)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "error[internal]" in said
    assert "surprise" in said
    assert "Traceback" not in said
    (file,) = tmp_path.iterdir()
    assert str(file) in said
    assert "Traceback" in file.read_text()
