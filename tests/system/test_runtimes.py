"""One model on every runtime, each in a process of its own, as the device and the factory start them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_agent.worker.protocol import Failed, Measured, MeasureSpec
from fleet_shared.manifest import Role
from tests.kit.engine import manifest_of, replace_file, write_slot
from tests.kit.tflite_agent import find_tflite_agent
from tests.kit.tiny_model import make_sum_and_product, make_tiny_model

pytestmark = pytest.mark.system

TELEMETRY = """
import sys
from fleet_agent.runtimes.openvino import OpenVino
OpenVino().load(sys.argv[1], 1)
assert sys.modules["openvino_telemetry"] is None
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""


def find_python(runtime: str) -> str:
    """tflite-runtime has an environment of its own: it needs numpy below 2."""
    if runtime != "tflite_runtime":
        return sys.executable
    agent = find_tflite_agent()
    assert agent is not None, "make tflite makes its environment"
    return str(agent.with_name("python"))


def run(runtime: str, module: str, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [find_python(runtime), "-m", module, *words]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=120)


def answer(runtime: str, folder: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)
    files = [str(folder / name) for name in ("model.tflite", "inputs.npz", f"{runtime}.npz")]
    done = run(runtime, "fleet_agent.runtimes.answer", runtime, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(folder / f"{runtime}.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("runtime", ["tflite_runtime", "openvino", "tvm"])
def test_an_int8_model_gives_the_answers_of_litert(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "model.tflite").write_bytes(make_tiny_model(int8=True))
    x = np.random.default_rng(0).integers(-128, 128, (40, 1, 8), dtype=np.int8)
    wanted = answer("litert", tmp_path, {"input_0": x})["output_0"]
    got = answer(runtime, tmp_path, {"input_0": x})["output_0"]
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    assert np.abs(got.astype(int) - wanted).max() <= 4


@pytest.mark.parametrize("runtime", ["tflite_runtime", "openvino", "tvm"])
def test_inputs_and_outputs_are_in_the_order_of_the_file(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "model.tflite").write_bytes(make_sum_and_product((1, 3)))
    a, b = np.full((1, 1, 3), 5, np.float32), np.full((1, 1, 3), 2, np.float32)
    got = answer(runtime, tmp_path, {"input_0": a, "input_1": b})
    assert got["output_0"].ravel().tolist() == [7, 7, 7]
    assert got["output_1"].ravel().tolist() == [10, 10, 10]


def test_openvino_does_not_phone_home(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(make_tiny_model())
    command = [sys.executable, "-c", TELEMETRY, str(tmp_path / "model.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def measure(slot: Path, runtime: str, compiled: Path) -> Measured | Failed:
    spec = MeasureSpec(
        slot=str(slot), manifest=manifest_of(slot), runtime=runtime,
        threads=1, runs=50, warmups=1, compiled=str(compiled)
    )  # fmt: skip
    done = run(runtime, "fleet_agent.worker.measure", given=msgspec.json.encode(spec))
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured | Failed)


def test_tvm_compiles_once_and_again_what_is_damaged(tmp_path: Path) -> None:
    slot, compiled = write_slot(tmp_path / "slot"), tmp_path / "compiled"
    first = measure(slot, "tvm", compiled)
    assert isinstance(first, Measured), first
    (library,) = compiled.glob("*.so")
    made, whole = library.stat().st_ino, library.read_bytes()
    assert isinstance(measure(slot, "tvm", compiled), Measured)
    assert library.stat().st_ino == made
    library.write_bytes(whole[: len(whole) // 2])
    third = measure(slot, "tvm", compiled)
    assert isinstance(third, Measured), third
    assert third.self_test.max_difference <= third.self_test.tolerance
    assert len(library.read_bytes()) >= len(whole) // 2 + 1


def test_what_a_runtime_cannot_load_is_told(tmp_path: Path) -> None:
    slot = write_slot(tmp_path / "slot")
    replace_file(slot, Role.MODEL, b"no model at all")
    failed = measure(slot, "litert", tmp_path)
    assert isinstance(failed, Failed)
    assert failed.failure.code == "worker.model.rejected"


THREADS = """
import os, sys, threading
from pathlib import Path
import numpy as np
from fleet_agent.runtimes.tvm import Tvm
before = os.sched_getaffinity(0)
model = Tvm().load(sys.argv[1], 3)
done = threading.Barrier(9)
def ask():
    model.invoke([np.zeros((1, 8), np.float32)])
    done.wait()
    done.wait()
for _ in range(8):
    threading.Thread(target=ask).start()
done.wait()
native = len(list(Path("/proc/self/task").iterdir())) - threading.active_count()
bound = [task for task in Path("/proc/self/task").iterdir() if os.sched_getaffinity(int(task.name)) != before]
done.wait()
print(native, len(bound))
"""


def test_tvm_has_as_many_threads_as_were_asked_for_however_many_ask_it(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(make_tiny_model())
    before = count_native("import numpy, tvm")
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(tmp_path / "model.tflite")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    native, bound = map(int, done.stdout.split())
    assert native - before <= 2, "three, the one that calls included"
    assert bound == 0


def count_native(imports: str) -> int:
    """Return how many threads there are besides Python's own."""
    count = "len(os.listdir('/proc/self/task')) - threading.active_count()"
    code = f"{imports}\nimport os, threading\nprint({count})"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def test_the_memory_of_a_measurement_is_not_that_of_who_started_it(tmp_path: Path) -> None:
    slot = write_slot(tmp_path / "slot")
    spec = MeasureSpec(
        slot=str(slot), manifest=manifest_of(slot), runtime="litert", threads=1, runs=50, warmups=1
    )
    held = bytearray(b"x") * (700 * 1024 * 1024)
    done = run("litert", "fleet_agent.worker.measure", given=msgspec.json.encode(spec))
    measured = msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured | Failed)
    assert isinstance(measured, Measured), measured
    assert 10 * 2**20 < measured.peak_bytes < len(held) / 2
