"""What a device keeps of its enrolment."""

from pathlib import Path

from fleet_agent.identity import Identity, keep_tls, load_identity, save_identity
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import DeviceId


def test_a_device_that_found_tls_asks_for_it_at_its_next_start(tmp_path: Path) -> None:
    identity = Identity(
        device=DeviceId("pi-1"),
        controller_url="http://127.0.0.1:8470",
        metadata_path="/releases/metadata",
        targets_path="/releases/targets",
        topic_root="fleet/v1",
        broker=BrokerAddress(host="127.0.0.1", port=8883),
    )
    save_identity(tmp_path, identity)
    keep_tls(tmp_path, identity)
    found = load_identity(tmp_path)
    assert found.broker == BrokerAddress(host="127.0.0.1", port=8883, tls=True)
    assert found.controller_url == identity.controller_url
    keep_tls(tmp_path / "gone", identity)  # is said in the log, and ends nothing
