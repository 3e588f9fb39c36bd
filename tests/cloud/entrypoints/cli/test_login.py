"""Signing in, contexts, and tokens, as a person uses them: real commands against a real controller."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.domain.people import Role
from tests.kit.api import Api, running_api
from tests.kit.home import Home
from tests.kit.people import ADMIN


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"})


def make_token(api: Api, name: str, role: Role = Role.ADMIN) -> str:
    for token in api.tokens.all():
        if token.name == name:
            api.tokens.revoke(token.id, ADMIN)
    return api.tokens.create(name, role, None, ADMIN)[1]


def test_a_person_signs_in_and_works_with_contexts(api: Api, home: Home) -> None:
    secret = make_token(api, "ann")
    said = home.expect("login", api.url, "--name", "berlin", typed=f"{secret}\n")
    assert "as ann (admin); context berlin" in said
    assert secret not in said
    assert home.expect("context", "show") == f"{api.url} as ann (admin)\n"
    other = make_token(api, "bob", Role.VIEWER)
    home.expect("login", api.url, "--name", "oslo", FLEET_TOKEN=other)
    assert "as bob" in home.expect("context", "show")
    assert "as ann" in home.expect("--context", "berlin", "context", "show")
    assert "as ann" in home.expect("context", "show", FLEET_CONTEXT="berlin")
    home.expect("context", "rename", "berlin", "bremen")
    assert "as bob" in home.expect("context", "show"), "renaming another one changes nothing"
    home.expect("context", "use", "bremen")
    assert "as ann" in home.expect("context", "show")
    listed = json.loads(home.expect("context", "list", "-o", "json"))
    assert [(one["name"], one["current"]) for one in listed] == [("oslo", False), ("bremen", True)]
    home.expect("context", "delete", "bremen")
    assert secret not in (home.config / "tokens.json").read_text()
    assert "context.unknown" in home.refused("context", "use", "bremen")


def test_secrets_lie_in_a_file_for_its_owner_only(api: Api, home: Home) -> None:
    secret = make_token(api, "ann")
    home.expect("login", api.url, FLEET_TOKEN=secret)
    file = home.config / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in (home.config / "contexts.json").read_text()
    file.chmod(0o644)
    said = home.refused("context", "show")
    assert "context.permissions" in said
    assert secret not in said


def test_where_there_is_a_keyring_the_secret_is_in_it_and_nowhere_else(api: Api, home: Home) -> None:
    secret = make_token(api, "ann")
    kept = home.folder / "keyring.json"
    desk = Home(
        home.folder,
        {"PYTHON_KEYRING_BACKEND": "tests.kit.file_keyring.FileKeyring", "KIT_KEYRING": str(kept)},
    )
    assert "token in the keyring" in desk.expect("login", api.url, "--name", "berlin", FLEET_TOKEN=secret)
    assert json.loads(kept.read_text()) == {"fleet/berlin": secret}
    assert not (home.config / "tokens.json").exists()
    assert "as ann" in desk.expect("context", "show")
    desk.expect("context", "delete", "berlin")
    assert json.loads(kept.read_text()) == {}


def test_a_token_is_not_sent_to_another_server(api: Api, home: Home, tmp_path: Path) -> None:
    home.expect("login", api.url, FLEET_TOKEN=make_token(api, "ann"))
    (tmp_path / "other").mkdir()
    with running_api(tmp_path / "other") as other:
        assert "error[api.unauthorized]" in home.refused("--server", other.url, "device", "list")
        said = home.refused("--context", "127.0.0.1", "--server", other.url, "device", "list")
        assert "error[context.server]" in said


def test_a_wrong_token_is_not_kept(api: Api, home: Home) -> None:
    assert "error[api.unauthorized]" in home.refused("login", api.url, FLEET_TOKEN="wrong")
    assert not home.config.exists()
    assert "error[api.token]" in home.refused("login", api.url, typed="")
    assert "error[controller.address]" in home.refused("login", "http://x/path", FLEET_TOKEN="t")


def test_tokens_are_shown_once_listed_and_revoked(api: Api, home: Home) -> None:
    admin = Home(home.folder, {"FLEET_SERVER": api.url, "FLEET_TOKEN": make_token(api, "root")})
    secret = admin.expect("token", "create", "ci-berlin", "--role", "operator", "--days", "30").strip()
    assert secret.startswith("fleet_")
    assert "error[token.exists]" in admin.refused("token", "create", "ci-berlin")
    shown = admin.expect("token", "list")
    assert secret not in shown
    assert "ci-berlin  operator  30 d left" in shown
    ci = {"FLEET_TOKEN": secret}
    assert "(operator)" in admin.expect("context", "show", **ci)
    assert "error[api.role]" in admin.refused("token", "list", **ci)
    admin.expect("token", "revoke", "ci-berlin")
    assert "error[api.token.ended]" in admin.refused("context", "show", **ci)
    assert "error[token.unknown]" in admin.refused("token", "revoke", "nobody")
