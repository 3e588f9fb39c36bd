"""What this process may take of the machine, set by itself before it loads anything.

Nothing here needs privileges: each only ever gives something up. What cannot be set here (a container
that hides /proc) is said and left: the supervisor watches the memory all the same.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from fleet_agent.worker.protocol import Limits

log = logging.getLogger(__name__)

_OWN: Final = Path("/proc/self")


def apply_limits(limits: Limits) -> None:
    """Priority and processors belong to threads: those that were started already (numpy's, too) are given
    them one by one, later ones inherit them. One that is nicer already stays so."""
    try:
        nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + limits.nice)
        cpus = sorted(os.sched_getaffinity(0))[-limits.cpus :]  # all for 0
        for thread in (int(folder.name) for folder in (_OWN / "task").iterdir()):
            with suppress(ProcessLookupError):  # it has just ended
                os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
                os.sched_setaffinity(thread, cpus)
        score = _OWN / "oom_score_adj"
        score.write_text(str(max(limits.oom_score_adj, int(score.read_text()))))
    except (OSError, ValueError) as exc:
        log.warning("the limits of this worker cannot be set: %s", exc)
