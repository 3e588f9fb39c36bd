"""The conformance client as a suite uses it: a command, its exit code, what it keeps and asks for."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.trust import conformance
from tests.kit.releases import Releases, far

ROLES = ["root", "snapshot", "targets", "timestamp"]


@pytest.fixture
def releases() -> Iterator[Releases]:
    found = Releases()
    found.release("path/to/artifact.txt", b"first")
    with found.serving():
        yield found


class Client:
    """Each call is what the command line asks for; ``process`` runs it as one."""

    def __init__(self, folder: Path, releases: Releases) -> None:
        self.metadata, self.targets, self.releases = folder / "metadata", folder / "targets", releases
        self.metadata.mkdir()
        self.targets.mkdir()
        self.root = folder / "initial_root.json"
        self.root.write_bytes(releases.pinned)
        self.process = False

    def init(self) -> int:
        return self._run("--metadata-dir", str(self.metadata), "init", str(self.root))

    def refresh(self) -> int:
        return self._run(*self._where(), "refresh")

    def download(self, name: str) -> int:
        return self._run(
            *self._where(), "--target-name", name, "--target-dir", str(self.targets),
            "--target-base-url", f"{self.releases.url}/targets", "download",
        )  # fmt: skip

    def versions(self) -> dict[str, int]:
        files = sorted(self.metadata.glob("*.json"))
        return {file.stem: json.loads(file.read_bytes())["signed"]["version"] for file in files}

    def downloaded(self) -> list[bytes]:
        return [file.read_bytes() for file in self.targets.rglob("*") if file.is_file()]

    def _where(self) -> list[str]:
        return ["--metadata-url", f"{self.releases.url}/metadata", "--metadata-dir", str(self.metadata)]

    def _run(self, *words: str) -> int:
        if not self.process:
            return conformance.main(words)
        command = [sys.executable, "-m", "fleet_agent.trust.conformance", *words]
        return subprocess.run(command, check=False, capture_output=True).returncode


@pytest.fixture
def client(tmp_path: Path, releases: Releases) -> Client:
    return Client(tmp_path, releases)


def test_as_a_command_it_believes_a_root_refreshes_and_downloads(client: Client, releases: Releases) -> None:
    client.process = True
    assert client.init() == 0
    assert releases.asked == [], "nothing is asked for at first"
    assert client.versions() == {"root": 1}
    assert client.refresh() == 0
    assert sorted(client.versions()) == ROLES
    assert client.download("path/to/artifact.txt") == 0
    assert client.downloaded() == [b"first"]
    releases.files["metadata/timestamp.json"] = b"{}"
    assert client.refresh() == 1


def test_a_root_that_is_none_is_refused(client: Client) -> None:
    client.root.write_bytes(b"{}")
    assert client.init() == 1


def test_it_asks_for_what_the_specification_says_and_no_more(client: Client, releases: Releases) -> None:
    client.init()
    client.refresh()
    first = ["2.root", "timestamp", "2.snapshot", "2.targets"]
    assert releases.asked == [f"metadata/{name}.json" for name in first]
    releases.asked.clear()
    assert client.refresh() == 0
    assert releases.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_metadata_is_kept_as_it_came(client: Client, releases: Releases) -> None:
    client.init()
    client.refresh()
    assert (client.metadata / "timestamp.json").read_bytes() == releases.files["metadata/timestamp.json"]
    assert (client.metadata / "root.json").read_bytes() == releases.pinned


def test_an_artifact_is_downloaded_once_and_again_when_it_changed(client: Client, releases: Releases) -> None:
    client.init()
    assert client.download("path/to/artifact.txt") == 0
    releases.asked.clear()
    assert client.download("path/to/artifact.txt") == 0
    assert not [path for path in releases.asked if path.startswith("targets/")]
    releases.release("path/to/artifact.txt", b"second")
    assert client.download("path/to/artifact.txt") == 0
    assert client.downloaded() == [b"second"]
    assert client.download("path/to/nothing.txt") == 1
    assert client.downloaded() == [b"second"]


def test_expiry_is_judged_by_the_clock_of_the_system(
    client: Client, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.init()
    assert client.refresh() == 0
    now_s = far(0).timestamp()
    for days, code in ((29, 0), (31, 1)):
        monkeypatch.setattr(time, "time", lambda days=days: now_s + days * 86_400)
        assert client.refresh() == code


def test_root_keys_rotate_and_old_ones_sign_nothing(client: Client, releases: Releases) -> None:
    client.init()
    for role in ("root", "timestamp", "root"):
        releases.rotate(role)
    assert client.refresh() == 0
    assert client.versions()["root"] == 4
    releases.publish_root()
    releases.files["metadata/5.root.json"] = releases.pinned
    assert client.refresh() == 1
    assert client.versions()["root"] == 4
