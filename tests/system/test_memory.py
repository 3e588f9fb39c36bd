"""The supervisor's memory, over what a device does in months."""

import pytest

from tests.bench.agent_memory import GROWTH_MIB, measure_agent_growth

pytestmark = pytest.mark.system


@pytest.mark.long
def test_the_supervisor_does_not_grow_over_20_updates_and_100000_rows() -> None:
    """From the fifth update on: until then everything that is loaded late has been."""
    looks = measure_agent_growth()
    sizes = [float(str(look["pss_mib"])) for look in looks]
    assert int(str(looks[-1]["rows"])) >= 100_000
    assert sizes[-1] - sizes[1] <= GROWTH_MIB, looks
