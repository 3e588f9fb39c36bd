"""What devices measured, over HTTP and as the command line shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_cloud.client import Client
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.measurements import Measurement, describe_hardware
from fleet_cloud.errors import NotFound
from fleet_shared.messages.reported import Reported
from fleet_shared.names import DeviceId, Digest
from tests.kit.api import Api, running_api
from tests.kit.commands import run_fleet
from tests.kit.parts import ABLE
from tests.kit.people import KIT_TOKEN

UNKNOWN = Digest("a" * 64)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def test_measurements_of_like_devices_are_listed(api: Api) -> None:
    row = Measurement(describe_hardware(ABLE), "litert", "2.3", 2, UNKNOWN, True, 81.5, DeviceId("pi-9"), 5)
    device = Device(
        id=DeviceId("pi-1"), enrolled_ms=1, public_key_sha256=UNKNOWN,
        reported=Reported(session="s", facts=ABLE),
    )  # fmt: skip
    with api.uow.begin() as transaction:
        transaction.devices.put(device)
        transaction.measurements.put(row)
    with Client(api.url, KIT_TOKEN) as client:
        (found,) = client.measurements("pi-1")
        with pytest.raises(NotFound):
            client.measurements("pi-2")
    assert (found.runtime, found.threads, found.latency_p50_us, found.device) == ("litert", 2, 81.5, "pi-9")
    assert (found.model, found.variant) == (None, None), "of a version that is not registered"
    shown = run_fleet(api.url, "device", "show", "pi-1")
    assert shown.returncode == 0, shown.stderr
    assert "0.082 ms" in shown.stdout or "0.081 ms" in shown.stdout
    assert "litert 2.3" in shown.stdout
