"""Loaded by every Python process of an agent whose PYTHONPATH names this folder: notes what the process
does to the disk, and kills the agent (SIGKILL) at the point that the test named.

``FLEET_CRASH_FOLDER`` holds ``order``, a line of JSON that the test writes: ``[token, point]``; with
another token the counts begin anew; an empty point only records. ``points`` gets a line for each point,
``died`` the one at which the process was killed. ``FLEET_CRASH_STATE`` is the state folder.
A point is ``state on disk|operation|path|count``; it is reached after the operation. A record whose
outcome is stored is ``settled``, whatever it says: the next update has not begun.
"""

import json
import os
import re
import signal
import sys

_FOLDER = os.environ.get("FLEET_CRASH_FOLDER", "")
_STATE = os.environ.get("FLEET_CRASH_STATE", "")
_IS_TRUST = "fleet_agent.trust" in sys.orig_argv
_RECORDED = re.compile(rb'"state":"([a-z-]+)"')
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BIN = re.compile(r"manifests-[0-9a-f]{2}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp$")
_counts: dict[str, int] = {}
_token: list[str] = [""]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - this runs before anything is imported
            return file.read()
    except OSError:
        return b""


def _append(name: str, line: str) -> None:
    handle = os.open(f"{_FOLDER}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def _name_of(path: str) -> str:
    relative = os.path.relpath(path, _STATE)
    return _TEMPORARY.sub(".tmp", _BIN.sub("manifests-BIN", _DIGEST.sub("DIGEST", relative)))


def _load_state() -> str:
    record = _read(f"{_STATE}/update.json")
    found = _RECORDED.search(record)
    if found is None or b'"outcome_reported":true' in record:
        return "settled"
    return found[1].decode()


def _reach(operation: str, path: str) -> None:
    order = _read(f"{_FOLDER}/order")
    token, wanted = json.loads(order) if order else ("", "")
    if token != _token[0]:
        _token[0] = token
        _counts.clear()
    label = f"{_load_state()}|{operation}|{_name_of(path)}"
    _counts[label] = _counts.get(label, 0) + 1
    point = f"{label}|{_counts[label]}"
    if not token:
        return
    _append("points", point)
    if point == wanted:
        _append("died", point)
        if _IS_TRUST:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == "fleet.disk":
        operation, moment, path, target = (str(arg) for arg in args)
        if moment == "after":
            _reach(operation, target or path)
    elif event == "os.rename" and _IS_TRUST and "/trust/metadata/" in str(args[1]):
        _reach("before-rename", str(args[1]))  # also what python-tuf writes by itself


if _FOLDER:
    sys.addaudithook(_hook)
