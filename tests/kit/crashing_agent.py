"""The real agent, killed (SIGKILL) at the instant its record is saved with a given state.

``python -m tests.kit.crashing_agent STATE run ...``: what a power cut at that point does.
"""

import os
import signal
import sys

from fleet_agent.cli import main
from fleet_agent.update.record import RecordFile, UpdateRecord


def install(state: str) -> None:
    save = RecordFile.save

    def save_and_die(self: RecordFile, record: UpdateRecord) -> None:
        save(self, record)
        if record.state.value == state:
            os.kill(os.getpid(), signal.SIGKILL)

    RecordFile.save = save_and_die  # type: ignore[method-assign]  # the point of this module


if __name__ == "__main__":
    install(sys.argv.pop(1))
    main()
