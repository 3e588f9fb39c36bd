"""From a recipe with several variants to devices that each get what they can run."""

import json
from pathlib import Path

import pytest

from tests.kit.commands import run_fleet
from tests.kit.tflite_agent import find_tflite_agent
from tests.kit.world import World, wait_for_outcomes

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(600)]

RECIPE = Path(__file__).parents[2] / "docs" / "examples" / "five-variants.yaml"


def fleet(world: World, *words: str) -> str:
    done = run_fleet(world.controller.url, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_five_variants_and_two_devices_of_which_one_cannot_run_the_best(world: World) -> None:
    binary = find_tflite_agent()
    assert binary is not None, "make tflite says what is missing"
    world.add_agent("pi-new")
    world.add_agent("pi-old", binary=binary)
    registered = json.loads(fleet(world, "build", str(RECIPE), "--output", "json"))
    reference = f"{registered['model']}:{registered['version']}"
    shown = json.loads(fleet(world, "model", "show", reference, "--output", "json"))
    assert [variant["name"] for variant in shown["variants"]] == [
        "fp32",
        "slim",
        "int8-sparse",
        "shared",
        "powers",
    ]
    fleet(world, "push", reference, "--to", "all")
    with world.client() as client:
        for device in ("pi-new", "pi-old"):
            assert [one.name for one in wait_for_outcomes(client, device, 1)] == ["update.succeeded"]
        reports = {name: client.device(name).reported for name in ("pi-new", "pi-old")}
    running = {name: report.active.variant for name, report in reports.items() if report and report.active}
    assert running["pi-new"] == "slim", "the smallest of those that are as accurate as the best"
    assert running["pi-old"] == "int8-sparse", "the smallest of those that this device can run"
