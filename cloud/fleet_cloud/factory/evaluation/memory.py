"""How much memory a file takes: measured in a process of its own, which this module is, too."""

import ctypes
import gc
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ANSWER_WITHIN_S: Final = 120.0
RUNS: Final = 3
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_PEAK_AGAIN: Final = "5"
"""Written to ``clear_refs``, it makes the peak what is resident now (man proc_pid_clear_refs)."""


def measure_memory(content: bytes) -> int | None:
    """Return the bytes that loading the file with LiteRT on one thread and running it added to the resident
    memory of a process of its own, at most at any time: the file, weights as XNNPACK packs them, tensors; in
    whole pages. None where it cannot be measured: not Linux with glibc, or no memory for it."""
    if not _STATUS.exists():
        return None
    with tempfile.NamedTemporaryFile(prefix="fleet-memory-", suffix=".tflite") as file:
        file.write(content)
        file.flush()
        command = [sys.executable, "-m", __name__, file.name]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=ANSWER_WITHIN_S)
        except subprocess.TimeoutExpired:
            return None
    said = done.stdout.split()
    return int(said[-1]) if done.returncode == 0 and said else None


def _measure(path: Path) -> int:
    """Run in the fresh process. The first time is not counted: it brings the library's own pages in. What it
    freed is given back to the system (glibc keeps it otherwise, and the second time would seem to need
    nothing)."""
    content = path.read_bytes()
    _run(content)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text(_PEAK_AGAIN)
    before = _read_kib("VmRSS")
    _run(content)
    return (_read_kib("VmHWM") - before) * 1024 + len(content)


def _run(content: bytes) -> None:
    import numpy as np

    from fleet_cloud.factory.lite import LiteModel

    model = LiteModel(content)
    inputs = [np.zeros(detail["shape"], dtype=detail["dtype"]) for detail in model.inputs]
    for _ in range(RUNS):
        model.run(inputs)


def _read_kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{_STATUS} has no {name}")
    return int(found.group(1))


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1])))
