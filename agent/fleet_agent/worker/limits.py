"""What this process may take of the machine, set by itself before it loads anything.

Nothing here needs privileges: each only ever gives something up. What cannot be set here (a container
that hides /proc) is said and left: the supervisor watches the memory all the same.
"""

import logging
import os
from pathlib import Path

from fleet_agent.worker.protocol import Limits

log = logging.getLogger(__name__)


def apply_limits(limits: Limits) -> None:
    """Threads that start later inherit all of it."""
    try:
        os.nice(limits.nice)
        if limits.cpus:
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, allowed[-limits.cpus :])
        own = Path("/proc/self/oom_score_adj")
        own.write_text(str(max(limits.oom_score_adj, int(own.read_text()))))
    except (OSError, ValueError) as exc:
        log.warning("the limits of this worker cannot be set: %s", exc)
