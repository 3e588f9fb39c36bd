"""Versions with a report and without, as ``fleet model`` shows them."""

import json
import os
import stat
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.registration import Draft, Release, register
from fleet_cloud.factory.evaluation.running import run_outputs
from fleet_cloud.factory.report.document import Report, read_report, write_report
from tests.cloud.factory.report.reports import LINEAGE, five_variants
from tests.kit.commands import run_fleet
from tests.kit.packages import make_package
from tests.kit.people import KIT_TOKEN
from tests.kit.tiny_model import make_tiny_model
from tests.kit.world import World

pytestmark = pytest.mark.system


def make_report(name: str) -> Report:
    """The report of a version with one variant, ``fp32``, which was pruned in two ways and quantized."""
    pruned, slim = five_variants().variants[2], five_variants().variants[4]
    pruned = msgspec.structs.replace(pruned, passes=(*slim.passes, *pruned.passes))
    evaluation = msgspec.structs.replace(pruned.evaluation, variant="fp32")
    return msgspec.structs.replace(
        five_variants(), model=name, variants=(msgspec.structs.replace(pruned, evaluation=evaluation),)
    )


def add(server: str, name: str, seed: int, report: Report | None) -> None:
    package = make_package(seed=seed)
    variant = {"name": package.name, "contract": package.contract, "blobs": package.refs}
    release = Release(Draft(model=name, version=None, variants=[variant], lineage=LINEAGE), package.contents)
    if report is not None:
        release = release.with_artifacts(
            {"report.html": b"<p>all of it</p>", "report.json": write_report(report), "keras/fp32": b"keras"}
        )
    with Client(server, KIT_TOKEN) as client:
        register(client, release, lambda _: None)


@pytest.fixture(scope="module")
def reported(shared_world: World) -> str:
    """A model with three versions: an old one without a report, and two with one."""
    server = shared_world.controller.url
    add(server, "reported", 21, None)
    add(server, "reported", 22, make_report("reported"))
    add(server, "reported", 23, make_report("reported"))
    return server


def test_a_version_is_shown_with_its_report(reported: str) -> None:
    shown = run_fleet(reported, "model", "show", "reported:1.1.0").stdout
    for words in (
        "97.5 % (95.3 to 98.7)",
        "+1.1 (0.0 to +2.8)",
        "prune-weights (sparsity=0.6",
        "cut            operations 82.2 k -> 57.0 k, parameters 13.7 k -> 9100, filters 40 -> 28",
        "widths         conv2d_1 32 -> 20\n",
        "left alone     odd (LayerNormalization is not known to pruning),",
        "accuracy_drop_max 0.02: held",
        "backed off     prune-weights 0.8, int8",
        "13.7 k parameters",
        "60 % zeros",
        "tvm 18.8 us (17.9 us to 21.6 us)",
        "3f3f3f3f",
        "keras 3.15.1",
        "keras/fp32, report.html",
        "fleet model report reported:1.1.0",
    ):
        assert words in shown, shown
    assert max(map(len, shown.splitlines())) <= 100


def test_an_old_version_is_shown_with_what_is_known(reported: str) -> None:
    done = run_fleet(reported, "model", "show", "reported:1.0.0")
    assert "90.0 %" in done.stdout
    assert "golden" in done.stdout
    assert "fleet model report" not in done.stdout
    everything = run_fleet(reported, "model", "show", "reported").stdout
    assert [f"reported:1.{minor}.0" in everything for minor in (0, 1, 2)] == [True] * 3


def test_versions_are_compared(reported: str) -> None:
    done = run_fleet(reported, "model", "compare", "reported:1.1.0", "reported:1.2.0/fp32")
    assert "pair by pair on the same 359 samples" in done.stdout
    assert "may be chance" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    told = json.loads(
        run_fleet(reported, "model", "compare", "reported:1.0.0", "reported", "--output", "json").stdout
    )
    assert told[0]["lines"][0]["measure"] == "accuracy"
    wrong = run_fleet(reported, "model", "compare", "reported:1.0.0/none", "reported")
    assert "error[model.variant.unknown]" in wrong.stderr


def test_reports_and_models_are_saved(reported: str, tmp_path: Path) -> None:
    page, data, keras = (tmp_path / name for name in ("r.html", "r.json", "m.keras"))
    assert run_fleet(reported, "model", "report", "reported", "-o", str(page)).stdout == f"{page}\n"
    assert page.read_text() == "<p>all of it</p>"
    run_fleet(reported, "model", "report", "reported:1.1.0", "--output", str(data))
    assert read_report(data.read_bytes()) == make_report("reported")
    run_fleet(reported, "model", "artifact", "reported:1.1.0", "keras/fp32", "-o", str(keras))
    assert keras.read_bytes() == b"keras"
    assert sorted(tmp_path.iterdir()) == sorted([page, data, keras])


def test_what_cannot_be_saved_leaves_nothing(reported: str, tmp_path: Path) -> None:
    old = run_fleet(reported, "model", "report", "reported:1.0.0", "-o", str(tmp_path / "r.html"))
    assert "error[model.artifact.unknown]" in old.stderr
    nowhere = run_fleet(reported, "model", "report", "reported", "-o", str(tmp_path / "no" / "r.html"))
    assert "error[file.unwritable]" in nowhere.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_a_file_is_replaced(reported: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        done = run_fleet(reported, "model", "report", "reported", "-o", str(place))
        assert "error[file.unwritable]" in done.stderr
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_an_import_has_a_report_as_a_build_has(shared_world: World, tmp_path: Path) -> None:
    """The samples say what the model itself says of them, one of ten another thing."""
    server, file = shared_world.controller.url, tmp_path / "m.tflite"
    file.write_bytes(make_tiny_model(seed=31))
    x = np.random.default_rng(3).uniform(-1, 1, size=(100, 8)).astype(np.float32)
    y = run_outputs(file.read_bytes(), x).argmax(axis=1)
    np.savez(tmp_path / "s.npz", allow_pickle=False, x=x, y=np.where(np.arange(100) % 10, y, (y + 1) % 4))
    samples = f"--samples={tmp_path / 's.npz'}"
    done = run_fleet(server, "model", "import", str(file), "--name", "appraised", samples)
    assert "accuracy 90.0 %" in done.stderr
    shown = run_fleet(server, "model", "show", "appraised:1.0.0").stdout
    for words in (
        "90.0 % (82.6 to 94.5)",
        "32 parameters, 32 operations",
        "m.tflite",
        "report.html, report.json",
    ):
        assert words in shown
    assert " us " in shown
    page = tmp_path / "page.html"
    assert run_fleet(server, "model", "report", "appraised", "-o", str(page)).returncode == 0
    assert "judged on 100 samples (given at the import)" in page.read_text()
