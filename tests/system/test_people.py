"""People and their tokens at a real controller: the first start, HTTPS, the audit log, and what logs tell."""

import http.client
import shutil
import socket
import sqlite3
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.home import Home
from tests.kit.local_broker import write_certificates
from tests.kit.people import KIT_TOKEN
from tests.kit.waiting import wait_for
from tests.kit.world import World, running_world

pytestmark = pytest.mark.system
NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A controller as it starts for the first time, to be reached from elsewhere: with HTTPS of its own, and
    no token given."""
    folder = tmp_path_factory.mktemp("first")
    with running_world(folder, {"host": "0.0.0.0"}, {"FLEET_API_TOKEN": ""}) as world:
        yield world


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, NO_KEYRING)


def data(world: World) -> Path:
    return world.folder / "controller"


def log(world: World) -> str:
    return (world.folder / "controller.log").read_text()


def fingerprint(world: World) -> str:
    from fleet_shared.names import digest_of

    return digest_of((data(world) / "tls" / "authorities.pem").read_bytes())


def test_commands_on_the_same_machine_ask_nothing(first: World, home: Home) -> None:
    here = {"FLEET_DATA": str(data(first))}
    assert home.expect("context", "show", **here) == f"{first.controller.url} as admin:local (admin)\n"
    assert home.expect("--server", first.controller.url, "device", "list", **here).startswith("no device")
    token = data(first) / "admin-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE((data(first) / "local.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(data(first).stat().st_mode) == 0o700


def test_somebody_else_is_not_let_in(first: World, home: Home) -> None:
    said = home.refused(
        "--server", first.controller.url, "--ca-file", str(data(first) / "tls" / "authorities.pem"), "status"
    )
    assert "error[api.unauthorized]" in said


def test_a_controller_is_known_by_its_fingerprint(first: World, home: Home) -> None:
    here = {"FLEET_DATA": str(data(first))}
    secret = home.expect("token", "create", "ann", "--role", "operator", **here).strip()
    mine = {"FLEET_TOKEN": secret}
    unknown = home.refused("login", first.controller.url, **mine)
    assert "error[login.ca]" in unknown
    assert fingerprint(first) in unknown
    wrong = home.refused("login", first.controller.url, "--ca-sha256", "0" * 64, **mine)
    assert "error[login.ca]" in wrong
    assert not home.config.exists()
    home.expect("login", first.controller.url, "--ca-sha256", f"sha256:{fingerprint(first)}", **mine)
    assert "as ann (operator)" in home.expect("context", "show")
    home.expect("context", "delete", "127.0.0.1")
    assert "error[controller.untrusted]" in home.refused("--server", first.controller.url, "status")
    assert secret not in log(first)


def test_only_modern_tls_is_spoken(first: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    address = ("127.0.0.1", first.controller.port)
    with socket.create_connection(address, timeout=20) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain)


def test_no_log_line_has_a_secret(first: World, home: Home) -> None:
    here = {"FLEET_DATA": str(data(first))}
    enrolment = home.expect("device", "token", **here).strip()
    token = home.expect("token", "create", "bob", **here).strip()
    server = ("--server", first.controller.url)
    home.expect(*server, "status", **here, FLEET_TOKEN=token)
    home.refused(*server, "status", **here, FLEET_TOKEN="wrong-but-secret")
    home.refused(*server, "token", "list", **here, FLEET_TOKEN=token)
    secrets = [enrolment, token, "wrong-but-secret", (data(first) / "admin-token").read_text().strip()]
    wait_for("the log to be written", lambda: log(first))
    for secret in secrets:
        assert secret not in log(first)
    with sqlite3.connect(data(first) / "fleet.db") as database:
        dumped = "\n".join(database.iterdump())
    database.close()
    for secret in secrets:
        assert secret not in dumped


@pytest.fixture
def served(tmp_path: Path) -> Iterator[World]:
    files = write_certificates(tmp_path / "given", [])
    given = {
        "FLEET_TLS_CERTIFICATE": str(files / "server.pem"),
        "FLEET_TLS_KEY": str(files / "server.key"),
        "FLEET_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
    }
    with running_world(tmp_path, {}, given) as world:
        yield world


def connect(world: World, authority: Path) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", world.controller.port), timeout=20)
    return ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname="127.0.0.1")


def ask(connection: ssl.SSLSocket) -> bool:
    """Tell whether the connection still answers."""
    connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status == 200 and bool(answer.read())


def test_a_new_certificate_is_used_and_no_connection_ends(served: World, tmp_path: Path) -> None:
    old, new = tmp_path / "given", write_certificates(tmp_path / "new", [])
    with connect(served, old / "ca.pem") as before:
        assert ask(before)
        shutil.copy(new / "server.pem", old / "server.pem")  # the key does not fit yet
        wait_for("it to be noticed", lambda: ask(before) and "is not used yet" in log(served))
        connect(served, old / "ca.pem").close()
        shutil.copy(new / "server.key", old / "server.key")

        def look() -> bool:
            try:
                connect(served, new / "ca.pem").close()
            except ssl.SSLError:
                assert ask(before)
                return False
            return True

        wait_for("the new certificate", look)
        assert ask(before)


def test_a_given_certificate_is_known_on_this_machine_and_by_its_issuer(
    served: World, home: Home, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    here = {"FLEET_DATA": str(data(served)), "FLEET_API_TOKEN": ""}
    assert "as admin:local (admin)" in home.expect("context", "show", **here), "whoever issued it"
    secret = home.expect("token", "create", "ann", **here).strip()
    server = f"https://127.0.0.1:{served.controller.port}"
    for words in ([], ["--ca-sha256", fingerprint(served)]):
        unknown = home.refused("login", server, *words, FLEET_TOKEN=secret)
        assert "error[login.ca]" in unknown
        assert "--ca-file" in unknown
    assert not home.config.exists()
    home.expect("--ca-file", str(given / "ca.pem"), "login", server, FLEET_TOKEN=secret)
    assert "as ann (viewer)" in home.expect("context", "show")
    home.expect("context", "delete", "127.0.0.1")
    wrong = write_certificates(tmp_path / "wrong", [])
    local = data(served) / "local.json"
    local.write_text(local.read_text().replace(str(given / "server.pem"), str(wrong / "server.pem")))
    assert "error[controller.untrusted]" in home.refused("context", "show", **here), "this certificate alone"


def test_only_a_trusted_proxy_says_where_a_request_comes_from(first: World, served: World) -> None:
    token = (data(first) / "admin-token").read_text().strip()
    plain = origin_of(first, data(first) / "tls" / "authorities.pem", token)
    assert plain == "127.0.0.1"
    behind = origin_of(served, served.folder / "given" / "ca.pem", KIT_TOKEN)
    assert behind == "192.0.2.7"


def origin_of(world: World, authority: Path, token: str) -> str:
    """Return where the controller says that a request came from which says otherwise itself."""
    with httpx.Client(verify=ssl.create_default_context(cafile=authority), timeout=60) as client:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.7"}
        origin: str = client.get(f"{world.controller.url}/api/v1/whoami", headers=headers).json()["origin"]
    return origin


def test_one_changed_byte_of_the_audit_log_is_found(tmp_path: Path, home: Home) -> None:
    with running_world(tmp_path) as world:
        admin = Home(home.folder, {**NO_KEYRING, "FLEET_DATA": str(data(world))})
        with world.client() as client:
            for name in ("ann", "bob", "eve"):
                client.create_api_token(name, "viewer", None)
        said = admin.expect("audit", "verify")
        assert said.startswith("3 entries are what was written\n")
        remembered = said.split("fleet audit verify ")[1].split()
        assert "token.create" in admin.expect("audit", "list")
        file = data(world) / "fleet.db"
        change(file, "UPDATE audit SET subject = 'bab' WHERE seq = 2")
        broken = admin.fleet("audit", "verify")
        assert broken.returncode == 1
        assert broken.stderr.startswith("the audit log is broken at entry 2: entry 2 is not what was written")
        change(file, "UPDATE audit SET subject = 'bob' WHERE seq = 2")
        change(file, "DELETE FROM audit WHERE seq = 3")
        for words in ([], ["--forget", *remembered]):
            cut = admin.fleet("audit", "verify", *words)
            assert "--forget" in cut.stderr, "what to do where the database was restored"
            assert cut.returncode == 1
            assert "the log ends at entry 2" in cut.stderr
        admin.expect("audit", "verify", "--forget")  # nothing but a memory knows of its end


def change(file: Path, statement: str) -> None:
    """What somebody can do who has the database in his hands, and takes its triggers away."""
    database = sqlite3.connect(file)
    with database:
        for name in ("audit_refuses_update", "audit_refuses_delete"):
            database.execute(f"DROP TRIGGER IF EXISTS {name}")
        database.execute(statement)
    database.close()
