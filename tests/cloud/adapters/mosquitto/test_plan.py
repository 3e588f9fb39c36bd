"""What must change at a broker: decided from what it has and what it should have."""

import itertools

import pytest

from fleet_cloud.adapters.mosquitto.commands import admission, entry_of, expulsion, role_acls
from fleet_cloud.adapters.mosquitto.plan import Found, plan_sync, read_client
from fleet_cloud.domain.topic_rules import device_rules
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics

TOPICS = Topics()
KEY, OTHER_KEY = Digest("a" * 64), Digest("b" * 64)
PI = DeviceId("pi-1")
ENTRY = entry_of(TOPICS, PI, KEY)
GOOD = Found("pi-1", ENTRY.mark, device=True, usable=True)


@pytest.mark.parametrize(
    ("found", "removed", "admitted"),
    [
        ([], [], ["pi-1"]),
        ([GOOD], [], []),
        ([Found("pi-1", entry_of(TOPICS, PI, OTHER_KEY).mark, device=True, usable=True)], ["pi-1"], ["pi-1"]),
        ([Found("pi-1", entry_of(Topics("x"), PI, KEY).mark, device=True, usable=True)], ["pi-1"], ["pi-1"]),
        ([Found("pi-1", ENTRY.mark, device=True, usable=False)], ["pi-1"], ["pi-1"]),
        ([Found("pi-1", "made by hand", device=False, usable=False)], ["pi-1"], ["pi-1"]),
        ([GOOD, Found("pi-9", ENTRY.mark, device=True, usable=True)], ["pi-9"], []),
        ([GOOD, Found("reader", "made by hand", device=False, usable=False)], [], []),
        ([GOOD, Found("ctl-fleet", "", device=False, usable=False)], [], []),
    ],
)
def test_what_is_wrong_is_changed_and_the_rest_is_left(
    found: list[Found], removed: list[str], admitted: list[str]
) -> None:
    changes = plan_sync([ENTRY], found)
    assert list(changes.remove) == removed
    assert [entry.device for entry in changes.admit] == admitted


def test_a_client_is_read_with_all_that_matters() -> None:
    client = {"username": "pi-1", "textdescription": ENTRY.mark, "roles": [{"rolename": "device-pi-1"}]}
    assert read_client(client) == GOOD
    assert not read_client({**client, "disabled": True}).usable
    more = [{"rolename": "device-pi-1"}, {"rolename": "controller"}]
    assert not read_client({**client, "roles": more}).usable
    assert read_client({**client, "roles": more}).device
    assert not read_client({**client, "roles": [{"rolename": "device-pi-2"}]}).device


def test_a_role_says_what_the_rules_say_and_denies_the_rest() -> None:
    rules = device_rules(TOPICS, PI)
    acls = role_acls(rules)
    assert all(acl["allow"] for acl in acls)
    by_kind = {
        kind: [acl["topic"] for acl in some]
        for kind, some in itertools.groupby(acls, lambda acl: acl["acltype"])
    }
    assert by_kind == {
        "publishClientSend": list(rules.publish),
        "publishClientReceive": list(rules.read),
        "subscribePattern": list(rules.read),
    }


def test_a_device_is_deleted_and_not_disabled() -> None:
    names = [command.name for command in expulsion(PI)]
    assert names == ["createClient", "deleteClient", "deleteRole"]
    assert [command.name for command in admission(ENTRY)] == ["deleteRole", "createRole", "createClient"]
