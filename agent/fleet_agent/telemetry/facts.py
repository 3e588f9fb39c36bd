"""What a device says of itself."""

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Final

import psutil

from fleet_agent import __version__
from fleet_shared.codec import SUPPORTED
from fleet_shared.messages.reported import Facts, RuntimeFact

_MODEL_FILES: Final = (
    Path("/proc/device-tree/model"),
    Path("/sys/devices/virtual/dmi/id/product_name"),
)


def load_facts(state_folder: Path, runtimes: tuple[RuntimeFact, ...]) -> Facts:
    return Facts(
        agent_version=__version__,
        hostname=socket.gethostname(),
        machine=platform.machine(),
        os=_load_os_name(),
        python=platform.python_version(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=shutil.disk_usage(state_folder).total,
        hardware=_load_hardware(),
        runtimes=runtimes,
        encodings=tuple(encoding.value for encoding in SUPPORTED),
    )


def _load_hardware() -> str:
    for file in _MODEL_FILES:
        try:
            return file.read_text(errors="replace").strip("\0\n ")
        except OSError:
            continue
    return ""


def _load_os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
