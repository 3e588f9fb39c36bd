"""What root does in the state of a service is left to the service's user."""

import os
import tempfile
from pathlib import Path

import pytest

from fleet_agent.ownership import left_to_owner

SERVICE = 61_234
IS_ROOT = os.geteuid() == 0


def own(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


def make_files(state: Path, outside: Path) -> None:
    with left_to_owner(state):
        (state / "identity").mkdir()
        (state / "identity/key.pem").touch()
        (state / "link").symlink_to(outside)
        (state / "nothing").read_text()


def test_what_root_makes_belongs_to_the_owner_of_the_folder_also_after_a_failure() -> None:
    """As another user there is nothing to give away, and nothing changes."""
    with tempfile.TemporaryDirectory() as name:
        state, outside = Path(name) / "state", Path(name) / "outside"
        state.mkdir()
        outside.touch()
        before = own(outside)
        if IS_ROOT:
            os.chown(state, SERVICE, SERVICE)
        with pytest.raises(FileNotFoundError):
            make_files(state, outside)
        wanted = (SERVICE, SERVICE) if IS_ROOT else before
        assert own(state / "identity") == own(state / "identity/key.pem") == own(state / "link") == wanted
        assert own(outside) == before, "a link is not followed"


def test_a_folder_of_root_and_one_that_is_not_there_are_left_alone(tmp_path: Path) -> None:
    with left_to_owner(tmp_path / "nothing"):
        pass
    with left_to_owner(tmp_path):
        (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_uid == os.geteuid()
