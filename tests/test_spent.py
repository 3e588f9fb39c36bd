"""What is told of the processor seconds of a run."""

import subprocess
import sys

import pytest

from tests.kit.spent import SPENT, Meter, sum_up, tell_spent

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def report(test: str, seconds: float) -> pytest.TestReport:
    properties = [("told", "a text"), (SPENT, seconds)]
    return pytest.TestReport(test, ("", 0, ""), {}, "passed", None, "call", user_properties=properties)


def test_a_process_that_a_test_started_counts_once_it_has_ended() -> None:
    meter = Meter()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert 0.4 <= meter.take() < 60
    assert meter.take() < 0.4


def test_all_phases_of_a_test_and_all_tests_of_a_folder_are_summed_up() -> None:
    reports = [
        report("tests/a/x.py::one", 20.0),
        report("tests/a/x.py::one", 30.5),
        report("tests/a/y.py::two", 9.0),
    ]
    spent = sum_up([*reports, report("tests/b/z.py::three[a::b]", 1.0)])
    assert spent == {"tests/a/x.py::one": 50.5, "tests/a/y.py::two": 9.0, "tests/b/z.py::three[a::b]": 1.0}
    told = [line.split() for line in tell_spent(spent)]
    assert told[0][-1] == "60"
    assert told[1:3] == [["59.5", "tests/a"], ["1.0", "tests/b"]]
    assert told[4] == ["50.5", "tests/a/x.py::one"]


def test_a_short_run_is_not_told_of() -> None:
    assert tell_spent({"tests/a/x.py::one": 59.0}) == []
