"""A device that speaks too fast is read more slowly, and loses nothing."""

import pytest

from fleet_cloud.adapters.broker import connection
from fleet_cloud.adapters.broker.pace import Pace
from tests.kit.secure_broker import Site


def test_a_burst_is_free_and_then_each_message_has_its_time() -> None:
    now_s = 100.0
    pace = Pace(per_s=10, burst=3, now_s=lambda: now_s)
    assert [pace.take() for _ in range(3)] == [0, 0, 0]
    assert pace.take() == pytest.approx(0.1)
    assert pace.take() == pytest.approx(0.2)
    now_s += 0.3
    assert pace.take() == pytest.approx(0)
    now_s += 1000
    assert [pace.take() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_a_device_that_floods_is_held_back_and_the_controller_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BURST_PACKETS", 6.0)
    monkeypatch.setattr(connection, "PACKETS_PER_S", 0.001)
    own = "fleet/v1/devices/pi-1"
    with (
        site.client("ctl-1", subscribe=[(f"{own}/telemetry", 1)]) as controller,
        site.client("pi-1", subscribe=[(f"{own}/chunk", 1)]) as device,
    ):
        sent = [device.mqtt.publish(f"{own}/telemetry", b"%d" % number, qos=1) for number in range(20)]
        assert [controller.get()[1] for _ in range(5)] == [b"%d" % number for number in range(5)]
        for number in range(50):
            controller.publish(f"{own}/chunk", b"%d" % number)
        assert [device.get()[1] for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert controller.messages.empty()
        assert not sent[-1].is_published()
