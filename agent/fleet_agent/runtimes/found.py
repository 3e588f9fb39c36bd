"""Which runtimes this device can start, found without importing any of them, and why not the others.

Versions come from the installed distributions. Each is tried once in a process of its own (`probe`), and
again only when a version changed: the outcome is kept in the state folder.
"""

import logging
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from fleet_agent import __version__
from fleet_agent.errors import SettingsError
from fleet_shared.durable import write_durably
from fleet_shared.messages.reported import RuntimeFact, UnavailableRuntime

log = logging.getLogger(__name__)

PROBE_WITHIN_S: Final = 120.0


@dataclass(frozen=True)
class Known:
    """``distributions``: any of them brings the runtime. ``needs``: whose versions matter besides.
    Wheels exist for Python up to ``last_python`` and for ``machines``."""

    distributions: tuple[str, ...]
    last_python: tuple[int, int]
    machines: frozenset[str]
    install: str
    needs: tuple[str, ...] = ("numpy",)


_WIDE: Final = frozenset({"x86_64", "aarch64", "arm64", "AMD64"})

RUNTIMES: Final = MappingProxyType(
    {
        "litert": Known(("ai-edge-litert",), (3, 14), _WIDE, "fleet-agent[litert]"),
        "tflite_runtime": Known(
            ("tflite-runtime",), (3, 11), _WIDE | {"armv7l"}, "fleet-agent[tflite]"
        ),
        "openvino": Known(("openvino",), (3, 14), _WIDE, "fleet-agent[openvino]"),
        "tvm": Known(
            ("apache-tvm",), (3, 14), _WIDE, "fleet-agent[tvm]", ("numpy", "ai-edge-litert", "tflite")
        ),
        "tensorrt": Known(
            ("onnxruntime-gpu", "onnxruntime"), (3, 14), _WIDE, "onnxruntime-gpu (NVIDIA devices only)"
        ),
    }
)  # fmt: skip
"""In order of preference: what comes first is used unless it was measured to be slower."""


def parse_allowed(text: str) -> tuple[str, ...]:
    """Return the names in the setting ``runtimes``; raise `SettingsError` (``settings.runtimes``)."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [name for name in names if name not in RUNTIMES]
    if unknown:
        close = get_close_matches(unknown[0], RUNTIMES, 1)
        raise SettingsError(
            f"runtimes = {text!r}: there is no runtime {unknown[0]!r}",
            hint=f"did you mean {close[0]}?" if close else f"known are {', '.join(RUNTIMES)}",
            code="settings.runtimes",
        )
    return names


@dataclass(frozen=True)
class Found:
    usable: tuple[RuntimeFact, ...]
    unavailable: tuple[UnavailableRuntime, ...]


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """How a runtime was found: ``versions`` of all that may matter; ``reason`` is empty if it works."""

    versions: tuple[str, ...]
    reason: str


def find_runtimes(allowed: Sequence[str] = (), kept: Path | None = None) -> Found:
    """Return them in order of preference: that of ``allowed``, which excludes all others, or `RUNTIMES`.

    ``kept``: where the outcome of earlier probes lies.
    """
    usable, unavailable = [], []
    earlier = {} if kept is None else _load(kept)
    probed: dict[str, Probed] = {}
    for name in allowed or RUNTIMES:
        known = RUNTIMES[name]
        found = _find_version(known)
        if found is None:
            unavailable.append(UnavailableRuntime(name=name, reason=explain_absence(known)))
            continue
        probed[name] = _probe(name, known, earlier.get(name))
        if probed[name].reason:
            unavailable.append(UnavailableRuntime(name=name, reason=probed[name].reason))
        else:
            usable.append(RuntimeFact(name=name, version=found))
    excluded = [name for name in RUNTIMES if allowed and name not in allowed]
    unavailable += [
        UnavailableRuntime(name=name, reason="the setting runtimes excludes it") for name in excluded
    ]
    if kept is not None and probed != earlier:
        _save(kept, {**earlier, **probed})
    return Found(tuple(usable), tuple(unavailable))


def find_installed() -> tuple[RuntimeFact, ...]:
    """Return the runtimes whose distribution is installed, whether they work or not."""
    found = ((name, _find_version(known)) for name, known in RUNTIMES.items())
    return tuple(RuntimeFact(name=name, version=version) for name, version in found if version is not None)


def explain_absence(
    known: Known, python: tuple[int, int] = sys.version_info[:2], machine: str = platform.machine()
) -> str:
    """Return why a runtime that is not installed is not there, or what would install it."""
    if machine not in known.machines:
        return f"no wheel for {machine}"
    if python > known.last_python:
        return f"no wheel for Python {python[0]}.{python[1]}"
    return f"not installed: {known.install}"


def _find_version(known: Known) -> str | None:
    return next((found for name in known.distributions if (found := _version(name))), None)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _probe(name: str, known: Known, earlier: Probed | None) -> Probed:
    versions = (
        f"fleet-agent {__version__}",
        f"python {platform.python_version()} {platform.machine()}",
        *(f"{one} {_version(one) or 'none'}" for one in (*known.distributions, *known.needs)),
    )
    if earlier is not None and earlier.versions == versions:
        return earlier
    reason, lasting = _run_probe(name)
    # What may have been the machine's bad moment is asked again at the next start.
    return Probed(versions=versions if lasting else (), reason=reason)


def _run_probe(name: str) -> tuple[str, bool]:
    """Return why the runtime does not work (empty: it does), and whether that will last."""
    command = [sys.executable, "-m", "fleet_agent.runtimes.probe", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PROBE_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not load within {PROBE_WITHIN_S:g} s", False
    except OSError as exc:
        return f"it could not be tried: {exc}", False
    if done.returncode == 0:
        return "", True
    said = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()[-1]
    if done.returncode > 0:
        log.warning("runtime %s does not work: %s", name, said)
        return said, True
    killed = -done.returncode
    log.warning("runtime %s does not work: its probe was killed by signal %s", name, killed)
    return f"it crashes: killed by {_signal_name(killed)}", killed != signal.SIGKILL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _load(kept: Path) -> dict[str, Probed]:
    try:
        return msgspec.json.decode(kept.read_bytes(), type=dict[str, Probed])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _save(kept: Path, probed: dict[str, Probed]) -> None:
    try:
        write_durably(kept, msgspec.json.encode(probed))
    except OSError as exc:
        log.warning("which runtimes work cannot be kept, and is asked again at the next start: %s", exc)
