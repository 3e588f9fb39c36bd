"""Processes of another time: their wall clock, also that of native code such as OpenSSL, is so many days off.

A few lines of C are compiled for it. Other tests set the clock of Python alone (`wall_clock`), while it runs.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


def make_time_shift(folder: Path, days: float) -> dict[str, str]:
    """Return the environment of processes that live ``days`` after now, before it if negative."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the clock of native code is shifted by a library, and there is no C compiler")
    library = folder / "time_shift.so"
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
    return {"LD_PRELOAD": str(library), "TEST_AHEAD_S": str(int(days * 86_400))}
