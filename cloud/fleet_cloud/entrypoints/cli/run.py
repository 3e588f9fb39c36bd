"""Run the command line: every error becomes one line, a hint and an exit code.

Exit codes: 0 done, 1 it did not work, 2 wrong usage, 130 interrupted; SIGTERM and SIGHUP clean up
and then end it as signals do.
"""

import sys
import tempfile
import traceback
from typing import NoReturn

from fleet_cloud.entrypoints.cli.app import app
from fleet_cloud.entrypoints.cli.signals import Ended, die_of, raise_on_signals
from fleet_shared.errors import FleetError

FAILED = 1
INTERRUPTED = 130


def main() -> NoReturn:
    raise_on_signals()
    try:
        app()
    except FleetError as error:
        print_error(error)
        sys.exit(FAILED)
    except Ended as ended:
        sys.stdout.flush()
        die_of(ended)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - the outermost guard: an operator gets no traceback
        print_error(_unexpected(exc))
        sys.exit(FAILED)
    sys.exit(0)


def print_error(error: FleetError) -> None:
    """Say what went wrong and what to do, on standard error."""
    print(f"error[{error.code}]: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def _unexpected(exc: Exception) -> FleetError:
    """Name the kind of error only: its text may repeat a password. The file is for its owner."""
    with tempfile.NamedTemporaryFile("w", prefix="fleet-error-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(exc)))
    return FleetError(
        f"this is a defect of Fleet: {type(exc).__name__}",
        hint=f"please report it with the file {file.name}, without any password in it",
        code="internal",
    )
