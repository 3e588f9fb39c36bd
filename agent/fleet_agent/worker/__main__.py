"""The inference worker: ``python -m fleet_agent.worker --control FD``. See `protocol`.

With ``--gently`` another worker serves meanwhile: then all that costs time is imported at low priority.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable

from fleet_agent.worker.gently import run_gently


def main() -> int:
    parser = argparse.ArgumentParser(prog="fleet_agent.worker")
    parser.add_argument("--control", type=int, required=True, help="inherited socket to the supervisor")
    parser.add_argument("--vitals", type=int, default=-1, help="inherited memory that the supervisor reads")
    parser.add_argument("--gently", action="store_true", help="somebody else serves meanwhile")
    # A Ctrl-C in a terminal and the SIGTERM of a service manager reach the whole group: they are the
    # supervisor's to handle, which ends its workers through the control socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    arguments = parser.parse_args()
    run = run_gently(import_run) if arguments.gently else import_run()
    return run(arguments.control, arguments.vitals)


def import_run() -> Callable[[int, int], int]:
    from fleet_agent.worker.run import run

    return run


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Taking an interpreter down, Python's and the model's, costs whoever serves now some 50 ms, and native
    # code may crash or hang in it. There is nothing to save.
    os._exit(code)
