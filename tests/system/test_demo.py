"""The demo, as a program reads it: a trained model, real agents, two attacks that fail."""

import json
import subprocess

import pytest

from tests.kit.world import BIN

pytestmark = pytest.mark.system


def test_the_demo_tells_the_whole_story_as_json() -> None:
    done = subprocess.run(
        [str(BIN / "fleet"), "demo", "--devices", "3", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    accuracy = {variant["name"]: variant["accuracy"] for variant in report["model"]["variants"]}
    assert accuracy["int8"] >= 0.96
    assert accuracy["fp32"] - accuracy["int8"] <= 0.01
    assert [device["state"] for device in report["devices"]] == ["succeeded"] * 3
    assert {device["version"] for device in report["devices"]} == {report["model"]["version"]}
    assert all(device["accuracy"] >= 0.9 for device in report["devices"])
    assert all(device["p50_ms"] > 0 and device["rss_mib"] > 0 for device in report["devices"])
    assert report["telemetry"]["lost"] == 0
    assert report["telemetry"]["samples"] > 0
    codes = [refusal["code"] for refusal in report["refused"]]
    assert codes == ["transfer.digest", "trust.desired.signature"]
