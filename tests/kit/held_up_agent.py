"""The real agent whose loop is held up on demand, while the process and its other threads live on.

``python -m tests.kit.held_up_agent FILE run ...``: as long as FILE exists, a turn of the loop does not end.
"""

import sys
import time
from pathlib import Path

from fleet_agent.entry import main
from fleet_agent.uplink import Uplink


def hold_up(file: Path) -> None:
    tick = Uplink.tick

    def tick_or_wait(self: Uplink, now_s: float) -> None:
        while file.exists():
            time.sleep(0.05)
        tick(self, now_s)

    Uplink.tick = tick_or_wait  # type: ignore[method-assign]


if __name__ == "__main__":
    hold_up(Path(sys.argv.pop(1)))
    main()
