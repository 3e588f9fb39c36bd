"""Readings that only some boards give: throttling of a Raspberry Pi; load, rails and zones of a Jetson.

All from files below ``root``, so that a test can lay them out. A file that is not there gives no reading.
"""

import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

THROTTLED_FILE: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
THROTTLING: Final = MappingProxyType(
    {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "soft_temperature_limit"}
)
"""Bit to flag (Raspberry Pi documentation, vcgencmd get_throttled); 16 bits higher: since boot."""
_SINCE_BOOT: Final = 16
_GPU_LOAD: Final = (
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/bus@0/*.gpu/load",
    "sys/devices/platform/*.gpu/load",
)
_RAILS: Final = ("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "sys/bus/i2c/drivers/ina3221x/*/iio:device*")
READINGS_MAX: Final = 16
"""Rails, and zones: a row has a limit."""
VCGENCMD_TIMEOUT_S: Final = 2.0


def read_board(root: Path = Path("/")) -> dict[str, float]:
    """Return what this board tells, each value with its unit in its name; flags are 0 or 1."""
    bits = read_throttling(root)
    flags = {} if bits is None else name_flags(bits)
    return {**flags, **_read_gpu(root), **_read_rails(root), **_read_zones(root), **_read_power_mode(root)}


def read_throttling(root: Path = Path("/")) -> int | None:
    """Return the firmware's bits: from its file, else from ``vcgencmd``; none on other boards."""
    text = _read(root / THROTTLED_FILE)
    if text is None and (root / "dev/vcio").exists() and (command := shutil.which("vcgencmd")):
        text = _ask(command)
    return None if text is None else parse_throttling(text)


def parse_throttling(text: str) -> int | None:
    """``50005`` of the file, or ``throttled=0x50005`` of vcgencmd."""
    try:
        return int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return None


def name_flags(bits: int) -> dict[str, float]:
    """Return every flag, now and since boot."""
    now = {name: float(bits >> bit & 1) for bit, name in THROTTLING.items()}
    since = {f"{name}_since_boot": float(bits >> bit + _SINCE_BOOT & 1) for bit, name in THROTTLING.items()}
    return now | since


def _ask(command: str) -> str | None:
    try:
        done = subprocess.run(
            [command, "get_throttled"],
            capture_output=True,
            text=True,
            timeout=VCGENCMD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _read_gpu(root: Path) -> dict[str, float]:
    """A Jetson gives its load in parts of a thousand."""
    for pattern in _GPU_LOAD:
        for file in sorted(root.glob(pattern)):
            if (load := _number(file)) is not None:
                return {"gpu_percent": load / 10}
    return {}


def _read_rails(root: Path) -> dict[str, float]:
    """Power of each rail that the INA3221 monitors watch: millivolts times milliamperes."""
    found: dict[str, float] = {}
    for folder in sorted(folder for pattern in _RAILS for folder in root.glob(pattern)):
        for label in sorted(folder.glob("in*_label")):
            channel = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = _number(folder / f"in{channel}_input"), _number(folder / f"curr{channel}_input")
            name = _word(_read(label))
            if name and volts is not None and amperes is not None:
                found[f"rail_{name}_mw"] = volts * amperes / 1000
    return dict(list(found.items())[:READINGS_MAX])


def _read_zones(root: Path) -> dict[str, float]:
    """Temperatures by the kernel's own names. A zone that is switched off refuses to be read."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name, temperature = _word(_read(zone / "type")), _number(zone / "temp")
        if name and temperature is not None and temperature > -200_000:
            found[f"zone_{name}_c"] = temperature / 1000
    return dict(list(found.items())[:READINGS_MAX])


def _read_power_mode(root: Path) -> dict[str, float]:
    """The mode that nvpmodel set: ``pmode:0002``."""
    text = _read(root / "var/lib/nvpmodel/status")
    digits = next(_digits(text or ""), None)
    return {} if digits is None else {"power_mode": float(digits)}


def _digits(text: str) -> Iterator[str]:
    for found in re.finditer(r"pmode:(\d{1,6})", text):
        yield found[1]


def _word(text: str | None) -> str:
    return re.sub(r"[^a-z0-9]+", "_", (text or "").lower()).strip("_")[:32]


def _number(file: Path) -> float | None:
    try:
        value = float(_read(file) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None
