"""The real agent, killed (SIGKILL) at a named instant: what a power cut at that point does.

``python -m tests.kit.crashing_agent POINT run ...``. A point is a state of the update (the record was
saved with it a moment ago), ``pointers-written`` (the switch is on disk, the record does not say so yet)
or ``outcome-stored`` (the outcome lies in the outbox, the record does not say so yet).
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fleet_agent.entry import main
from fleet_agent.link.outbox import Outbox
from fleet_agent.slots import Slots
from fleet_agent.update.record import RecordFile, UpdateRecord

POINTERS_WRITTEN = "pointers-written"
OUTCOME_STORED = "outcome-stored"


def die_after(owner: type, name: str, wanted: Callable[..., bool]) -> None:
    """From now on the process ends right after a call of ``owner.name`` that is wanted."""
    original = getattr(owner, name)

    def call_and_die(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        if wanted(*args, **options):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call_and_die)


def install(point: str) -> None:
    def says_so(_file: RecordFile, record: UpdateRecord) -> bool:
        return record.state.value == point

    if point == POINTERS_WRITTEN:
        die_after(Slots, "save_pointers", lambda *_: True)
    elif point == OUTCOME_STORED:
        die_after(Outbox, "append_once", lambda *_: True)
    else:
        die_after(RecordFile, "save", says_so)


if __name__ == "__main__":
    install(sys.argv.pop(1))
    main()
