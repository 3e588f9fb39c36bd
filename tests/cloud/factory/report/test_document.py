"""``report.json``: written, read again, and read by who does not know all of it."""

import msgspec
import pytest

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.report.document import PassReport, read_report, write_report
from tests.cloud.factory.report.reports import five_variants, regression, without_data

DEEP = b'{"lineage": {"a": ' + b"[" * 100_000
"""What is nested without end is no report."""


def test_a_report_goes_through_json() -> None:
    for report in (five_variants(), without_data(), regression()):
        assert read_report(write_report(report)) == report


def test_what_a_later_version_adds_is_ignored_and_another_schema_is_not() -> None:
    written = msgspec.json.decode(write_report(without_data()))
    assert read_report(msgspec.json.encode({**written, "later": 1})) == without_data()
    for content in (msgspec.json.encode({**written, "schema": 2}), b"no json", b"{}", b"\xff", DEEP):
        with pytest.raises(Invalid) as caught:
            read_report(content)
        assert caught.value.code == "report.invalid"


def test_the_history_of_any_pass_is_read() -> None:
    step = PassReport(
        name="train",
        facts={
            "history": [{"loss": 1.5, "validation_accuracy": 0.5}, {"epoch": 2, "loss": 1, "score": 0.7}, "x"]
        },
    )
    assert [(one.epoch, one.loss, one.score) for one in step.history] == [(1, 1.5, 0.5), (2, 1.0, 0.7)]
    assert PassReport(name="int8", facts={"history": "none"}).history == ()


def test_the_history_of_rounds_is_one() -> None:
    (step,) = five_variants().variants[4].passes
    first, second = (one["history"] for one in step.facts["rounds"])
    assert [one.epoch for one in step.history] == [1, 2, 3, 4, 5, 6]
    assert [one.loss for one in step.history] == [one["loss"] for one in (*first, *second)]
    assert PassReport(name="odd", facts={"rounds": ["x", {"history": 1}, {}]}).history == ()


def test_what_became_less_and_what_was_left_alone() -> None:
    (step,) = five_variants().variants[4].passes
    changes = {name: (one.before, one.after) for name, one in step.changes.items()}
    assert changes == {"operations": (82_240, 57_000), "parameters": (13_706, 9_100), "filters": (40, 28)}
    assert step.widths["conv2d"].layers == ("conv2d", "conv2d_2")
    assert step.left_alone["dense_1"] == "it gives the model's output"
    odd = PassReport(name="odd", facts={"operations": 3, "widths": {"a": 1}, "left_alone": [1]})
    assert (odd.changes, odd.widths, odd.left_alone) == ({}, {}, {})


def test_sensitivity_and_what_a_pass_settled_on() -> None:
    facts = {"sensitivity": [{"layer": "a", "noise": 0.5}], "kept": ["a"], "tried": [{"x": 1}], "share": 0.4}
    step = PassReport(name="int8", facts=facts)
    assert [(one.layer, one.noise) for one in step.sensitivity] == [("a", 0.5)]
    assert step.settled == {"kept": ["a"], "share": 0.4}
    assert PassReport(name="int8", facts={"sensitivity": [{"odd": 1}]}).sensitivity == ()


def test_variants_are_found_by_name() -> None:
    found = five_variants().find("slim")
    assert found is not None
    assert found.name == "slim"
    assert five_variants().find("none") is None
