"""The outermost guard of a command: an operator gets one error with a code and a hint, and no traceback."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from fleet_shared.errors import FleetError

FAILED: Final = 1
INTERRUPTED: Final = 130
REPORT_PREFIX: Final = "fleet-agent-error-"
REPORTS_KEPT: Final = 5
"""A service manager starts an agent that fails again and again."""


def guarded(command: Callable[[], object]) -> NoReturn:
    """Run ``command`` and exit: 0 done, 1 it did not work, 130 interrupted, or as it says itself."""
    try:
        command()
    except FleetError as error:
        _print_error(error)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001 - the outermost guard: a person gets no traceback
        _print_error(_unexpected(traceback.format_exc()))
        sys.exit(FAILED)
    sys.exit(0)


def _print_error(error: FleetError) -> None:
    print(f"error[{error.code}]: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def _unexpected(report: str) -> FleetError:
    try:
        older = sorted(Path(tempfile.gettempdir()).glob(f"{REPORT_PREFIX}*.txt"), key=os.path.getmtime)
        for file_name in older[: max(0, len(older) - REPORTS_KEPT + 1)]:
            file_name.unlink()
        with tempfile.NamedTemporaryFile("w", prefix=REPORT_PREFIX, suffix=".txt", delete=False) as file:
            file.write(report)
        hint = f"please report it with the file {file.name}"
    except OSError as exc:
        hint = f"please report it; no file could be written: {exc}"
    return FleetError(
        f"this is a defect of Fleet: {report.strip().splitlines()[-1]}", hint=hint, code="internal"
    )
