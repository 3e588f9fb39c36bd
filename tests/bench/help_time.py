"""How long ``fleet --help`` takes, beside a bare ``import typer`` and a bare Python."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15


def measure_help() -> list[dict[str, object]]:
    """Medians over rounds in which each command runs once, so that a busy moment hits all alike."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import typer": [sys.executable, "-c", "import typer"],
        "fleet --help": [str(Path(sys.executable).with_name("fleet")), "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["import typer"])
    return [
        {
            "command": name,
            "median_ms": round(statistics.median(taken) * 1000, 1),
            "ratio_to_import_typer": round(statistics.median(taken) / base, 2),
        }
        for name, taken in times.items()
    ]
