"""What selectors see of a device: labels never win over what it is."""

import msgspec

from fleet_cloud.domain.device import Device
from fleet_shared.messages.reported import Facts, Reported, RuntimeFact
from fleet_shared.names import DeviceId, Digest

FACTS = Facts(
    agent_version="0.1.0", hostname="raspberrypi", machine="aarch64", os="Debian", python="3.11.2",
    cpu_count=4, memory_bytes=1, disk_bytes=1, hardware="Raspberry Pi 5",
    runtimes=(RuntimeFact(name="litert", version="2"), RuntimeFact(name="tflite_runtime", version="2.14")),
)  # fmt: skip


def device(labels: dict[str, str], facts: Facts | None = FACTS) -> Device:
    reported = None if facts is None else Reported(session="s", facts=facts)
    return Device(DeviceId("pi-1"), 0, Digest("a" * 64), labels, reported=reported)


def test_labels_facts_and_the_id() -> None:
    assert device({"site": "berlin"}).attributes == {
        "site": "berlin",
        "id": "pi-1",
        "fact.agent": "0.1.0",
        "fact.hostname": "raspberrypi",
        "fact.machine": "aarch64",
        "fact.os": "Debian",
        "fact.python": "3.11.2",
        "fact.hardware": "Raspberry Pi 5",
        "fact.runtime": "litert",
    }


def test_a_label_overrides_neither_the_id_nor_a_fact() -> None:
    attributes = device({"id": "pi-2", "fact.runtime": "tflite_runtime"}).attributes
    assert (attributes["id"], attributes["fact.runtime"]) == ("pi-1", "litert")


def test_a_fact_that_is_empty_is_not_set() -> None:
    bare = msgspec.structs.replace(FACTS, hardware="", runtimes=())
    assert not {"fact.hardware", "fact.runtime"} & device({}, bare).attributes.keys()
    assert device({"site": "x"}, None).attributes == {"site": "x", "id": "pi-1"}
