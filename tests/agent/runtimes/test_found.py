"""Which runtimes are found: what is installed and works, and why not the others. Packages are real ones
in a folder of the test, as broken as packages get."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_agent.errors import SettingsError
from fleet_agent.runtimes.found import RUNTIMES, explain_absence, parse_allowed

LISTING = """
import json, sys
from pathlib import Path
from fleet_agent.runtimes.found import find_runtimes
found = find_runtimes(tuple(sys.argv[2:]), Path(sys.argv[1]))
assert not {"numpy", "openvino", "tvm", "ai_edge_litert"} & set(sys.modules), "the finder imports nothing"
print(json.dumps([[one.name for one in found.usable], {one.name: one.reason for one in found.unavailable}]))
"""


def install(folder: Path, package: str, distribution: str, version: str, code: str) -> None:
    """A package as a package manager leaves it, ahead of the real one."""
    (folder / package).mkdir(parents=True, exist_ok=True)
    (folder / package / "__init__.py").write_text(code)
    information = folder / f"{distribution}-{version}.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )


def find(folder: Path, *allowed: str) -> tuple[list[str], dict[str, str]]:
    command = f"import sys; sys.path.insert(0, {str(folder)!r})\n{LISTING}"
    environment = {"PYTHONPATH": ":".join([str(folder), *filter(None, sys.path)]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", command, str(folder / "runtimes.json"), *allowed],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    usable, unavailable = json.loads(done.stdout.splitlines()[-1])
    return usable, unavailable


def test_a_package_that_cannot_be_imported_is_not_chosen_and_its_reason_is_said(tmp_path: Path) -> None:
    install(tmp_path, "openvino", "openvino", "9.1", "raise ImportError('libtbb.so.12: cannot open')")
    usable, unavailable = find(tmp_path, "openvino", "litert")
    assert usable == ["litert"]
    assert "libtbb.so.12: cannot open" in unavailable["openvino"]
    assert unavailable["tvm"] == "the setting runtimes excludes it"


def test_a_package_that_crashes_is_not_chosen(tmp_path: Path) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    install(tmp_path, "openvino", "openvino", "9.1", crash)
    assert find(tmp_path, "openvino") == ([], {
        "openvino": "it crashes: killed by SIGILL",
        **dict.fromkeys(("litert", "tflite_runtime", "tvm", "tensorrt"), "the setting runtimes excludes it"),
    })  # fmt: skip


def test_onnx_runtime_without_tensorrt_says_so(tmp_path: Path) -> None:
    code = "def get_available_providers(): return ['CPUExecutionProvider']"
    install(tmp_path, "onnxruntime", "onnxruntime", "1.20", code)
    usable, unavailable = find(tmp_path, "tensorrt")
    assert usable == []
    assert "ONNX Runtime has no TensorRT provider, only CPUExecutionProvider" in unavailable["tensorrt"]


def test_each_is_tried_once_for_a_set_of_versions(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    code = f"open({str(tried)!r}, 'a').write('x'); raise ImportError('broken')"
    install(tmp_path, "openvino", "openvino", "9.1", code)
    for _ in range(2):
        assert "broken" in find(tmp_path, "openvino")[1]["openvino"]
    assert tried.read_text() == "x"
    (tmp_path / "openvino-9.1.dist-info").rename(tmp_path / "openvino-9.2.dist-info")
    metadata = tmp_path / "openvino-9.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("9.1", "9.2"))
    find(tmp_path, "openvino")
    assert tried.read_text() == "xx", "another version is another try"
    (tmp_path / "runtimes.json").write_text("{damaged")
    find(tmp_path, "openvino")
    assert tried.read_text() == "xxx"


@pytest.mark.parametrize(
    ("name", "python", "machine", "reason"),
    [
        ("tflite_runtime", (3, 13), "aarch64", "no wheel for Python 3.13"),
        ("tflite_runtime", (3, 11), "armv7l", "not installed: fleet-agent[tflite]"),
        ("litert", (3, 11), "armv7l", "no wheel for armv7l"),
        ("openvino", (3, 11), "riscv64", "no wheel for riscv64"),
        ("tvm", (3, 11), "x86_64", "not installed: fleet-agent[tvm]"),
        ("tensorrt", (3, 10), "aarch64", "not installed: onnxruntime-gpu (NVIDIA devices only)"),
    ],
)
def test_why_one_is_not_there(name: str, python: tuple[int, int], machine: str, reason: str) -> None:
    assert explain_absence(RUNTIMES[name], python, machine) == reason


def test_the_setting_is_a_list_of_known_names() -> None:
    assert parse_allowed("") == ()
    assert parse_allowed(" tvm, litert ,tvm,") == ("tvm", "litert")
    with pytest.raises(SettingsError) as caught:
        parse_allowed("litert,openvno")
    assert caught.value.code == "settings.runtimes"
    assert "openvino" in caught.value.hint
