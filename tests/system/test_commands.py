"""The operator's commands on a fleet of two, one of which has no room: what is printed, and how it ends."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.commands import run_fleet
from tests.kit.packages import make_package, register
from tests.kit.world import World, running_world, wait_for_all_until_now

pytestmark = pytest.mark.system

QUICK = ("--soak", "0.2", "--deadline", "60")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """pi-1 runs tiny:1.0.0; pi-2 never has room."""
    with running_world(tmp_path_factory.mktemp("commands")) as world:
        with world.client() as client:
            register(client, "tiny", make_package())
        world.add_agent("pi-1")
        world.add_agent("pi-2", environment={"FLEET_AGENT_DISK_MARGIN_BYTES": str(10**15)})
        first = fleet(world, "push", "tiny", "--to", "id=pi-1", *QUICK)
        assert first.returncode == 0, first
        assert first.stdout == "tiny:1.0.0 runs on 1 of 1 devices\n"
        assert "pi-1: succeeded (fp32)" in first.stderr
        yield world


def fleet(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return run_fleet(world.controller.url, *words)


def ask(world: World, *words: str) -> str:
    done = fleet(world, *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def ask_json(world: World, *words: str) -> Any:
    return json.loads(ask(world, *words, "-o", "json"))


def rows(text: str) -> list[list[str]]:
    """Return the cells of a printed table, its head first."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


def test_a_push_that_fails_somewhere_says_where_and_why_and_ends_with_1(pair: World) -> None:
    done = fleet(pair, "push", "tiny:1.0.0", "--to", "all", *QUICK)
    assert done.returncode == 1
    table = rows(done.stdout)
    assert table[0] == ["tiny:1.0.0 runs on 1 of 2 devices"]
    assert table[1] == ["DEVICE", "STATE", "CODE", "WHY"]
    assert table[2][:3] == ["pi-2", "failed", "disk.full"]
    assert "full" in table[2][3]
    assert "hint for disk.full: free space on the device" in done.stdout
    assert "pi-2: failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_push_as_json_is_one_document_also_when_it_fails(pair: World) -> None:
    done = fleet(pair, "push", "tiny", "--to", "name=pi-2", *QUICK, "-o", "json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["state"], document["devices"]) == ("failed", ["pi-2"])
    assert document["assignments"][0]["failure"]["code"] == "disk.full"
    good = fleet(pair, "push", "tiny", "--to", "name=pi-1", *QUICK, "-o", "json")
    assert good.returncode == 0
    document = json.loads(good.stdout)
    assert (document["state"], document["assignments"][0]["state"]) == ("succeeded", "succeeded")


def test_a_detached_push_does_not_wait_and_can_be_looked_at_later(pair: World) -> None:
    printed = ask(pair, "push", "tiny", "--to", "id=pi-2", *QUICK, "--detach")
    found = re.fullmatch(r"tiny:1\.0\.0 to 1 devices recorded: fleet rollout show (\w+)\n", printed)
    assert found is not None, printed
    shown = ask(pair, "rollout", "show", found[1])
    assert shown.startswith("tiny:1.0.0 to id=pi-2: ")
    document = ask_json(pair, "rollout", "show", found[1])
    assert document["id"] == found[1]
    listed = ask_json(pair, "rollout", "list")
    assert listed[0]["id"] == found[1], "newest first"
    head, newest, *_ = rows(ask(pair, "rollout", "list"))
    assert head == ["ROLLOUT", "MODEL", "TO", "DEVICES", "STATE"]
    assert newest[:4] == [found[1], "tiny:1.0.0", "id=pi-2", "1"]


def test_a_rollout_is_shown_with_its_devices_and_failures(pair: World) -> None:
    failed = json.loads(fleet(pair, "push", "tiny", "--to", "all", *QUICK, "-o", "json").stdout)
    shown = ask(pair, "rollout", "show", failed["id"])
    assert shown.startswith("tiny:1.0.0 to all: failed\n")
    table = {cells[0]: cells[1:] for cells in rows(shown)}
    assert table["DEVICE"]
    assert "pi-1   succeeded" in re.sub(r" +", lambda m: "   " if len(m[0]) > 1 else " ", shown)
    assert "disk.full" in shown


def test_devices_are_listed_shown_and_labelled(pair: World) -> None:
    assert ask(pair, "device", "label", "pi-1", "site=berlin", "hw=rpi5") == (
        "pi-1: hw=rpi5,name=pi-1,site=berlin\n"
    )
    head, only = rows(ask(pair, "device", "list", "site=berlin"))
    assert head == ["DEVICE", "LINK", "RUNS", "LABELS", "SEEN"]
    assert only[:4] == ["pi-1", "online", "tiny:1.0.0 (fp32)", "hw=rpi5,name=pi-1,site=berlin"]
    assert [d["id"] for d in ask_json(pair, "device", "list")] == ["pi-1", "pi-2"]
    assert [d["id"] for d in ask_json(pair, "device", "list", "!site")] == ["pi-2"]
    assert ask(pair, "device", "label", "pi-1", "site-", "hw-") == "pi-1: name=pi-1\n"
    shown = ask(pair, "device", "show", "pi-1")
    for wanted in ("pi-1", "online", "tiny:1.0.0 (fp32)", "litert", "lost 0", "succeeded"):
        assert wanted in shown, shown
    document = ask_json(pair, "device", "show", "pi-2")
    assert document["device"]["id"] == "pi-2"
    assert document["telemetry"]["lost"] == 0
    wrong = fleet(pair, "device", "label", "pi-1", "nonsense")
    assert wrong.returncode == 1
    assert "error[label.invalid]" in wrong.stderr


def test_telemetry_is_shown_as_newest_values_series_and_account(pair: World) -> None:
    with pair.client() as client:
        wait_for_all_until_now(client, "pi-1")
    table = rows(ask(pair, "telemetry", "pi-1", "--source", "host"))
    assert table[0] == ["SOURCE", "METRIC", "READINGS", "NEWEST"]
    assert {"cpu_percent", "memory_used_bytes", "disk_free_bytes"} <= {cells[1] for cells in table[1:-1]}
    assert "lost 0, duplicates suppressed" in ask(pair, "telemetry", "pi-1")
    series = rows(
        ask(pair, "telemetry", "pi-1", "--metric", "cpu_percent", "--source", "host", "--limit", "3")
    )
    assert series[0] == ["TIME", "cpu_percent".upper()]
    assert len(series) == 1 + 3 + 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", series[1][0])
    document = ask_json(pair, "telemetry", "pi-1")
    assert document["device"] == "pi-1"
    assert {one["source"] for one in document["series"]} == {"host", "model"}
    assert document["totals"]["lost"] == 0


def test_the_fleet_at_a_glance(pair: World) -> None:
    printed = ask(pair, "status")
    assert "2 online, 0 offline" in printed
    assert "1 models, 1 versions" in printed
    assert "lost 0" in printed
    document = ask_json(pair, "status")
    assert document["health"]["status"] == "ok"
    assert (document["fleet"]["devices_online"], document["fleet"]["versions"]) == (2, 1)
