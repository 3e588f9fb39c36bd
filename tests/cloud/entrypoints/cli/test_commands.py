"""Small commands: what they print, and what they refuse."""

from pathlib import Path

import pytest

from fleet_cloud.entrypoints.cli.output import describe_value
from tests.kit.commands import run_fleet
from tests.kit.packages import make_package, register
from tests.kit.tiny_model import make_tiny_model
from tests.kit.world import World


@pytest.mark.parametrize(
    "words",
    [
        ("telemetry", "pi-1", "--minutes", "inf"),
        ("telemetry", "pi-1", "--minutes", "nan"),
        ("telemetry", "pi-1", "--minutes", "1e300"),
        ("device", "token", "--hours", "inf"),
        ("device", "token", "--hours", "nan"),
        ("model", "import", "m.tflite", "--name", "m", "--scale", "nan"),
        ("model", "import", "m.tflite", "--name", "m", "--scale", "0"),
        ("model", "import", "m.tflite", "--name", "m", "--mean", "0.5,x"),
        ("model", "import", "m.tflite", "--name", "m", "--mean", "0.5,nan"),
        ("model", "import", "m.tflite", "--name", "m", "--std", "0.5,0"),
        ("model", "import", "m.tflite", "--name", "m", "--pad", "256"),
        ("model", "import", "m.tflite", "--name", "m", "--fit", "squeeze"),
        ("model", "import", "m.tflite", "--name", "m", "--offset", "inf"),
    ],
)
def test_numbers_out_of_reason_are_wrong_usage(words: tuple[str, ...]) -> None:
    done = run_fleet("http://127.0.0.1:1", *words)
    assert done.returncode == 2, done
    assert words[-2] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.system
def test_a_selector_that_matches_nobody_is_not_an_empty_fleet(server: str) -> None:
    assert run_fleet(server, "device", "list", "site=oslo").stdout == "no device matches site=oslo\n"
    assert "pi-1" in run_fleet(server, "device", "list", "site=berlin").stdout


@pytest.mark.system
def test_an_import_says_whether_anything_was_registered(server: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(make_tiny_model(seed=7))
    words = ("model", "import", str(tmp_path / "m.tflite"), "--name", "imported")
    assert run_fleet(server, *words).stdout == "imported imported:1.0.0\n"
    again = run_fleet(server, *words).stdout
    assert again == "unchanged: the same content is registered already as imported:1.0.0\n"


@pytest.mark.system
def test_a_version_that_is_taken_is_refused_before_the_training(shared_world: World) -> None:
    with shared_world.client() as client:
        register(client, "digits", make_package(seed=3))
    done = run_fleet(shared_world.controller.url, "build", "docs/examples/digits.yaml", "--version", "1.0.0")
    assert done.returncode == 1
    assert "error[model.version.exists]" in done.stderr
    assert "starting" not in done.stderr


@pytest.mark.system
def test_the_size_of_a_variant_is_that_of_its_model_file(shared_world: World) -> None:
    package = make_package(padding_bytes=200 * 1024)
    with shared_world.client() as client:
        (variant,) = register(client, "sized", package).variants
    size = len(make_tiny_model(padding_bytes=200 * 1024))
    assert variant.model_bytes == size
    assert variant.size_bytes > size
    assert f"{size / 1024:.1f} KiB" in run_fleet(shared_world.controller.url, "model", "show", "sized").stdout


def test_readings_of_bytes_are_shown_as_bytes() -> None:
    assert describe_value("disk_free_bytes", 8.30833e10) == "77.4 GiB"
    assert describe_value("cpu_percent", 12.5) == "12.5"
