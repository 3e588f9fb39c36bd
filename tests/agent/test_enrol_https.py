"""Enrolment over HTTPS: the token alone says whom to believe."""

import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet_agent.controller_http import pick_authorities
from fleet_agent.enrol import enrol, warn_of
from fleet_agent.errors import EnrolmentError
from fleet_agent.floor import raise_floor
from fleet_agent.identity import load_identity
from fleet_agent.paths import StatePaths
from fleet_shared.messages.enrolment import BrokerAddress, EnrolReply, EnrolRequest
from fleet_shared.names import DeviceId, digest_of
from fleet_shared.token import EnrolmentToken
from fleet_shared.wire import decode, encode
from tests.kit.authority import Authority

PI = DeviceId("pi-1")
ROOT = "root"


@dataclass
class SecureController:
    """``tells``: what it says its authorities are. ``secrets``: what was sent to it."""

    folder: Path
    authority: Authority
    tells: bytes | None = None
    ends_days: float = 90
    secrets: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        self.authority.write(self.folder, "server", "controller", ends_days=self.ends_days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a device that hangs up
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        controller = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = controller.tells
                self._answer(404 if known is None else 200, known or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(200, controller.enrol(body))

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: object) -> None:
                return

        return Handler

    def enrol(self, body: bytes) -> bytes:
        request = decode(EnrolRequest, body)
        self.secrets.append(request.secret)
        return encode(
            EnrolReply(
                device=PI, certificate_pem=self.authority.sign_csr(request.csr_pem, PI),
                ca_pem=self.authority.pem, root_json=ROOT, metadata_path="/m", targets_path="/t",
                topic_root="fleet/v1", broker=BrokerAddress(port=8883, tls=True),
            )
        )  # fmt: skip


def token_of(authority: Authority) -> EnrolmentToken:
    pem = authority.pem.encode()
    return EnrolmentToken(secret="secret", ca_sha256=digest_of(pem), root_sha256=digest_of(ROOT.encode()))


@pytest.fixture
def controller(tmp_path: Path) -> SecureController:
    authority = Authority()
    return SecureController(tmp_path, authority, authority.pem.encode())


def test_an_authority_that_the_token_names_is_believed(controller: SecureController, tmp_path: Path) -> None:
    with controller.serving() as url:
        enrol(url, token_of(controller.authority), PI, StatePaths(tmp_path / "state"), wait_s=0)
    assert controller.secrets == ["secret"]
    assert load_identity(tmp_path / "state" / "identity").broker.tls


def test_while_authorities_are_replaced_the_one_of_the_token_is_enough(
    controller: SecureController, tmp_path: Path
) -> None:
    controller.tells = (Authority("newer").pem + controller.authority.pem).encode()
    with controller.serving() as url:
        enrol(url, token_of(controller.authority), PI, StatePaths(tmp_path / "state"), wait_s=0)
    assert controller.secrets == ["secret"]


@pytest.mark.parametrize("tells", [b"", b"\xff", b"x" * 10_000_000, None])
def test_whoever_cannot_tell_the_right_authority_gets_no_secret(
    controller: SecureController, tmp_path: Path, tells: bytes | None
) -> None:
    controller.tells = tells
    with controller.serving() as url, pytest.raises(EnrolmentError) as caught:
        enrol(url, token_of(controller.authority), PI, StatePaths(tmp_path / "state"), wait_s=0)
    assert caught.value.code == ("enrol.tls" if tells is None else "enrol.ca.mismatch")
    assert controller.secrets == []


def test_whoever_tells_the_right_authority_and_is_not_of_it_gets_no_secret(
    controller: SecureController, tmp_path: Path
) -> None:
    honest, controller.authority = controller.authority, Authority()
    with controller.serving() as url, pytest.raises(EnrolmentError) as caught:
        enrol(url, token_of(honest), PI, StatePaths(tmp_path / "state"), wait_s=0)
    assert caught.value.code == "enrol.tls"
    assert controller.secrets == []


def test_a_controller_whose_certificate_ended_gets_no_secret(
    controller: SecureController, tmp_path: Path
) -> None:
    """By what this device has seen signed, whatever its clock says."""
    controller.authority = Authority(begins_days=-90)
    controller.tells, controller.ends_days = controller.authority.pem.encode(), -0.5
    floor = StatePaths(tmp_path / "state").floor
    floor.parent.mkdir(parents=True)
    raise_floor(floor, int(time.time() * 1000))
    with controller.serving() as url, pytest.raises(EnrolmentError, match="ended") as caught:
        enrol(url, token_of(controller.authority), PI, StatePaths(tmp_path / "state"), wait_s=0)
    assert caught.value.code == "enrol.tls"
    assert "clock" in caught.value.hint
    assert controller.secrets == []


def test_what_speaks_no_https_is_said_to_be_none(controller: SecureController, tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(EnrolmentError) as caught:
            enrol(url, token_of(controller.authority), PI, StatePaths(tmp_path / "state"), wait_s=0)
    finally:
        server.shutdown()
        server.server_close()
    assert (caught.value.code, "no HTTPS" in caught.value.hint) == ("enrol.tls", True)


def test_a_token_that_everybody_on_the_way_can_read_is_warned_of() -> None:
    assert "token" in warn_of("http://controller.local:8470")
    assert not any(map(warn_of, ("https://controller.local", "http://127.0.0.1:8470", "http://localhost")))


def test_the_digest_is_of_the_text_as_it_was_given() -> None:
    one, two = Authority("one").pem, Authority("two").pem
    for wanted in (one, two, one + two):
        assert pick_authorities((one + two).encode(), digest_of(wanted.encode())) == wanted
    with pytest.raises(EnrolmentError):
        pick_authorities((one + two).encode(), digest_of((two + one).encode()))
