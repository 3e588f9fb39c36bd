"""A wall clock that a test sets, for all processes of an agent: ``environment`` makes each Python load it
at its start. The boot clock goes on as it does. (libfaketime would reach native code too, but keeps
threads from waking.)
"""

import os
from dataclasses import dataclass
from pathlib import Path

_SITE = """
import os, time
_real = time.time

def _told():
    with open(os.environ["TEST_WALL_CLOCK"]) as file:
        return _real() + float(file.read())

time.time = _told
"""


@dataclass
class WallClock:
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(_SITE)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        return {"PYTHONPATH": path, "TEST_WALL_CLOCK": str(self.folder / "wall-clock")}

    def set(self, ahead_s: float) -> None:
        """From now on it is ``ahead_s`` seconds before (negative) or after the real time."""
        beside = self.folder / "wall-clock.new"
        beside.write_text(str(ahead_s))
        beside.replace(self.folder / "wall-clock")
