"""What a device says of itself."""

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Final

import psutil

from fleet_agent import __version__
from fleet_agent.telemetry.reading import read_or
from fleet_shared.codec import SUPPORTED
from fleet_shared.limits import FACT_BYTES
from fleet_shared.messages.reported import Facts, RuntimeFact, UnavailableRuntime
from fleet_shared.wire import clip

_MODEL_FILES: Final = (
    Path("/proc/device-tree/model"),
    Path("/sys/devices/virtual/dmi/id/product_name"),
)


def load_facts(
    state_folder: Path,
    runtimes: tuple[RuntimeFact, ...],
    unavailable: tuple[UnavailableRuntime, ...] = (),
) -> Facts:
    """Return them; a number that cannot be read is 0, a text empty. Texts are clipped: the report of
    a device must fit its message whatever somebody called the machine."""
    return Facts(
        agent_version=_clip(__version__),
        hostname=_clip(socket.gethostname()),
        machine=_clip(platform.machine()),
        os=_clip(_load_os_name()),
        python=_clip(platform.python_version()),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=read_or(0, lambda: psutil.virtual_memory().total),
        disk_bytes=read_or(0, lambda: shutil.disk_usage(state_folder).total),
        hardware=_clip(_load_hardware()),
        runtimes=tuple(RuntimeFact(name=_clip(one.name), version=_clip(one.version)) for one in runtimes),
        encodings=tuple(encoding.value for encoding in SUPPORTED),
        runtimes_unavailable=tuple(
            UnavailableRuntime(name=_clip(one.name), reason=_clip(one.reason)) for one in unavailable
        ),
    )


def _clip(text: str) -> str:
    return clip(text, FACT_BYTES)


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
