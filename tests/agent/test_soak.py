"""The trial time after a switch, by itself."""

from fleet_agent.update.soak import SILENT_AFTER_S, Soak
from tests.kit.device_edges import make_stats


def test_a_soak_needs_its_time_and_a_measurement_since_the_worker_serves() -> None:
    soak = Soak(soak_s=5.0)
    assert not soak.is_over(1_000.0)
    assert soak.judge(make_stats()) is None, "measured before it served: it counts for nothing"
    soak.begin(100.0)
    assert not soak.is_over(1_000.0)
    assert soak.judge(make_stats()) is None
    assert not soak.is_over(104.9)
    assert soak.is_over(105.0)
    assert not soak.is_silent(1_000.0)


def test_a_worker_that_measures_nothing_is_silent_some_time_after_its_trial() -> None:
    soak = Soak(soak_s=5.0)
    assert not soak.is_silent(1_000.0), "it does not serve yet: another limit looks at that"
    soak.begin(100.0)
    assert not soak.is_silent(104.9 + SILENT_AFTER_S)
    assert soak.is_silent(105.0 + SILENT_AFTER_S)
