"""What an artifact may be called, and who may read it."""

import pytest

from fleet_cloud.domain.artifacts import find_reader, is_artifact_name
from fleet_cloud.domain.people import Role


@pytest.mark.parametrize("name", ["report.html", "report.json", "keras", "keras/int8-pruned", "a_b/c.d"])
def test_names(name: str) -> None:
    assert is_artifact_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/", "a//b", "a/../b", "a/b/c", "A", "a b", "a\n", "é", "a" * 65, ".a"]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_artifact_name(name)


def test_reports_are_for_viewers_and_nothing_else_is() -> None:
    assert find_reader("report.html") is find_reader("report.json") is Role.VIEWER
    for name in ("keras", "keras/int8", "report", "report.html/x", "report.HTML", "anything"):
        assert find_reader(name) is Role.OPERATOR
