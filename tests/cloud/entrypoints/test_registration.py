"""A finished build is not lost: it waits for the controller, or is kept and registered later."""

from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.registration import (
    RETRY_DELAYS_S,
    Draft,
    Release,
    check_controller,
    keep,
    load_kept,
    register,
    register_or_keep,
)
from fleet_cloud.errors import BuildError, Conflict, Forbidden, Invalid, Unavailable
from tests.kit.commands import run_fleet
from tests.kit.packages import make_package
from tests.kit.people import KIT_TOKEN
from tests.kit.ports import free_port
from tests.kit.world import Controller, World, running_world

pytestmark = pytest.mark.system


def make_release(model: str, version: str | None = None) -> Release:
    package = make_package()
    variant = {"name": package.name, "contract": package.contract, "blobs": package.refs}
    draft = Draft(model=model, version=version, variants=[variant], lineage={"recipe": "r"})
    return Release(draft, package.contents)


def test_artifacts_go_with_a_release_and_are_kept_with_it(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    release = make_release("reported").with_artifacts({"report.html": b"<p>", "keras/fp32": b"k"})
    kept = load_kept(keep(release))
    assert kept.draft.artifacts == release.draft.artifacts
    assert kept.contents == dict(release.contents)
    with Client(server, KIT_TOKEN) as client:
        version = register(client, kept, ignore)
        assert version.artifacts == ["keras/fp32", "report.html"]
        assert client.read_artifact("reported", version.version, "keras/fp32") == b"k"


def test_a_controller_from_before_there_were_artifacts_is_not_told_of_none() -> None:
    assert "artifacts" not in make_release("m").draft.body()


def ignore(_: float) -> None:
    """Wait for nothing."""


def test_registration_waits_for_a_controller_that_comes_back(tmp_path: Path) -> None:
    controller = Controller(tmp_path, {"data": str(tmp_path / "data")}, port=free_port())
    said: list[float] = []

    def sleep(_: float) -> None:
        if len(said) == 2:
            controller.start()

    try:
        with Client(controller.url, KIT_TOKEN) as client:
            version = register(client, make_release("late"), said.append, sleep)
            assert (version.version, version.created) == ("1.0.0", True)
            assert said == list(RETRY_DELAYS_S[:2])
            again = register(client, make_release("late"), said.append, sleep)
            assert (again.version, again.created) == ("1.0.0", False)
    finally:
        controller.end()


def test_a_build_lies_in_a_folder_while_it_waits_and_no_longer(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    away, back = Client(f"http://127.0.0.1:{free_port()}"), Client(server, KIT_TOKEN)
    release = make_release("waits")

    def come_back(_: float) -> None:
        (folder,) = tmp_path.iterdir()
        assert load_kept(folder).contents == dict(release.contents)
        away._http = back._http

    with back:
        assert register_or_keep(away, release, ignore, come_back).created
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_registered_is_kept_and_registered_later(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[float] = []
    with (
        Client(f"http://127.0.0.1:{free_port()}") as away,
        pytest.raises(BuildError, match="the finished build is kept") as caught,
    ):
        register_or_keep(away, make_release("kept"), said.append, ignore)
    assert caught.value.code == "controller.unreachable"
    assert said == list(RETRY_DELAYS_S)
    (folder,) = tmp_path.iterdir()
    assert caught.value.hint == f"fleet model register {folder}"
    done = run_fleet(server, "model", "register", str(folder))
    assert (done.returncode, done.stdout) == (0, "registered kept:1.0.0\n"), done.stderr
    with Client(server, KIT_TOKEN) as client:
        version = client.version("kept", "1.0.0")
    assert version.lineage == {"recipe": "r"}
    assert version.variants[0].contract == make_package().contract
    assert "unchanged" in run_fleet(server, "model", "register", str(folder)).stdout


def test_a_folder_that_holds_no_whole_build_is_refused(tmp_path: Path, server: str) -> None:
    done = run_fleet(server, "model", "register", str(tmp_path))
    assert done.returncode == 1
    assert "error[build.folder]" in done.stderr
    (tmp_path / "blobs").mkdir()
    (tmp_path / "draft.json").write_text('{"model":"m","version":null,"variants":[],"lineage":{}}')
    assert load_kept(tmp_path).contents == {}
    (tmp_path / "blobs" / ("a" * 64)).write_bytes(b"other bytes")
    with pytest.raises(BuildError, match="damaged"):
        load_kept(tmp_path)


def test_a_wrong_token_and_a_taken_version_are_noticed_first(tmp_path: Path, server: str) -> None:
    with Client(server, KIT_TOKEN) as client:
        register(client, make_release("taken", "2.0.0"), ignore)
        check_controller(client, "taken", None)
        check_controller(client, "taken", "2.1.0")
        check_controller(client, "unheard-of", "1.0.0")
        with pytest.raises(Conflict) as caught:
            check_controller(client, "taken", "2.0.0")
        assert caught.value.code == "model.version.exists"
    with running_world(tmp_path, environment={"FLEET_API_TOKEN": "right"}) as guarded:
        for token in (None, "wrong"):
            with Client(guarded.controller.url, token) as client, pytest.raises(Forbidden):
                check_controller(client, "m", None)
        with Client(guarded.controller.url, "right") as client:
            check_controller(client, "m", None)
        done = run_fleet(guarded.controller.url, "build", "docs/examples/digits.yaml")
        assert "error[api.unauthorized]" in done.stderr
        assert "starting" not in done.stderr


def test_an_error_that_no_waiting_heals_is_raised_at_once(shared_world: World) -> None:
    unknown = make_package(seed=99)
    variants = [{"name": unknown.name, "contract": unknown.contract, "blobs": unknown.refs}]
    draft = Draft(model="m", version=None, variants=variants, lineage={})
    with shared_world.client() as client, pytest.raises(Invalid, match="not in the store"):
        register(client, Release(draft, {}), _fail)
    with Client(f"http://127.0.0.1:{free_port()}") as away, pytest.raises(Unavailable):
        register(away, make_release("m"), ignore, ignore)


def _fail(delay_s: float) -> None:
    raise AssertionError(f"waits for {delay_s} s")
