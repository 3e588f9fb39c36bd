"""Which tests run in one process, when several share them."""

import pytest

from tests.kit.shared_out import find_group, find_turn


@pytest.mark.parametrize(
    ("tests", "groups"),
    [
        (("tests/shared/test_names.py::a", "tests/shared/test_names.py::b"), 1),
        (("tests/shared/test_names.py::a", "tests/shared/test_wire.py::a"), 2),
        (("tests/system/test_start.py::a", "tests/system/test_start.py::b[c::d]"), 2),
        (("tests/system/test_commands.py::a", "tests/system/test_commands.py::b"), 1),
        (("tests/cloud/factory/test_build.py::a", "tests/cloud/factory/test_golden.py::b"), 1),
    ],
    ids=["a file", "two files", "real processes", "a fixture of the file", "TensorFlow"],
)
def test_how_many_groups_there_are(tests: tuple[str, ...], groups: int) -> None:
    assert len({find_group(test) for test in tests}) == groups


def test_the_longest_groups_are_shared_out_first() -> None:
    tests = [
        "tests/agent/test_rows.py::a",
        "tests/system/test_start.py::a",
        "tests/cloud/factory/test_build.py::a",
    ]
    assert sorted(tests, key=find_turn) == tests[::-1]
