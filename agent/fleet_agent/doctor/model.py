"""Checks of what this device runs: runtime, model, worker, last update, outbox."""

from pathlib import Path
from typing import Final

from fleet_agent.doctor.finding import Found, attention, failed, ok, skipped
from fleet_agent.errors import InferenceError, SlotError
from fleet_agent.paths import StatePaths
from fleet_agent.runtimes.found import find_installed, find_runtimes, parse_allowed
from fleet_agent.settings import Settings
from fleet_agent.slots import MANIFEST_FILE, Slots
from fleet_agent.status import (
    OutboxStatus,
    describe_age,
    describe_waiting,
    load_outbox,
    load_pointers,
    load_record,
)
from fleet_agent.update.record import UpdateRecord
from fleet_agent.worker_http import Address, Wire
from fleet_shared.errors import MessageError
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Running, RuntimeFact
from fleet_shared.messages.update import UpdateState

SOCKET_TIMEOUT_S: Final = 5.0
WAITING_S: Final = 3600.0


def check_runtime(settings: Settings) -> Found:
    """Tries those that the settings allow, as the agent does."""
    try:
        active = load_pointers(StatePaths(settings.state)).active
    except (OSError, SlotError):
        active = None  # the check of the model tells
    allowed = parse_allowed(settings.runtimes)
    found = find_runtimes(allowed)
    installed = {fact.name: fact for fact in find_installed() if not allowed or fact.name in allowed}
    # ONNX Runtime is there for other reasons as well: without TensorRT it is none of this device's faults.
    troubles = {
        one.name: one.reason for one in found.unavailable if one.name in installed and one.name != "tensorrt"
    }
    broken = tuple(installed[name] for name in troubles)
    return judge_runtimes((*found.usable, *broken), troubles, active)


def judge_runtimes(
    runtimes: tuple[RuntimeFact, ...], troubles: dict[str, str], active: Running | None
) -> Found:
    install = "install the agent again: deploy/install/install.sh chooses the right runtime"
    if not runtimes:
        return failed("no runtime is installed: no model can run", install)
    if active is not None and active.runtime not in {fact.name for fact in runtimes}:
        return failed(f"the active model needs {active.runtime}, which is not installed", install)
    if active is not None and active.runtime in troubles:
        return failed(f"{active.runtime} does not start: {troubles[active.runtime]}", install)
    works = [f"{fact.name} {fact.version}" for fact in runtimes if fact.name not in troubles]
    if not works:
        return failed("; ".join(f"{name} does not start: {why}" for name, why in troubles.items()), install)
    broken = "; ".join(f"{name} does not start: {why}" for name, why in troubles.items())
    if broken:
        return attention(f"{', '.join(works)}; {broken}", install)
    return ok(", ".join(works))


def check_model(paths: StatePaths) -> Found:
    again = "push the model again; the previous one can be pushed too"
    try:
        active = load_pointers(paths).active
    except SlotError as exc:
        return failed(f"what is installed cannot be read: {exc}", again)
    if active is None:
        return skipped("none is installed yet")
    name = f"{active.model}:{active.version} ({active.variant})"
    try:
        manifest = parse_manifest((paths.slots / active.manifest / MANIFEST_FILE).read_bytes())
    except PermissionError:
        raise
    except (OSError, MessageError) as exc:
        return failed(f"{name}: its slot cannot be read: {exc}", again)
    slots = Slots(paths.slots, paths.pointers)  # the folder is there: nothing is made
    if not slots.is_whole(active.manifest, manifest.blobs):
        return failed(f"{name}: its files are not what was released", again)
    return ok(f"{name}, whole by its digests")


def check_worker(paths: StatePaths, *, running: bool) -> Found:
    try:
        active = load_pointers(paths).active
    except (OSError, SlotError):
        return skipped("nobody knows which model it should serve: see the check of the model")
    if active is None:
        return skipped("no model is installed yet")
    if not running:
        return skipped("the agent does not run")
    return judge_worker(*(ask_health(paths.root / "inference.sock", word) for word in ("live", "ready")))


def ask_health(path: Path, word: str) -> str:
    """Return the status of ``/v2/health/WORD``, or what went wrong."""
    wire = Wire(Address(path=str(path)), SOCKET_TIMEOUT_S, again=False)
    try:
        return str(wire.ask("GET", f"/v2/health/{word}").status)
    except InferenceError as exc:
        return exc.message
    finally:
        wire.close()


def judge_worker(live: str, ready: str) -> Found:
    hint = "see the agent's log: the worker is restarted by itself"
    if live != "200":
        return failed(f"no worker answers: {live}", hint)
    if ready != "200":
        return failed(f"the worker lives, and is not ready: {ready}", hint)
    return ok("it answers, live and ready")


def check_update(paths: StatePaths) -> Found:
    if not paths.record.exists():
        return skipped("none yet")
    record = load_record(paths)
    if record is None:
        return attention("its record is damaged", "the agent sets it aside at its next start, and goes on")
    return judge_update(record)


def judge_update(record: UpdateRecord) -> Found:
    words = f"{record.entry.model}:{record.entry.version} {record.state.value}"
    failure = record.failure
    if record.state in (UpdateState.FAILED, UpdateState.ROLLED_BACK, UpdateState.ROLLING_BACK):
        why = f": {failure.message} ({failure.code})" if failure else ""
        return attention(words + why, (failure.hint if failure else "") or "the model from before serves on")
    return ok(words)


def check_outbox(paths: StatePaths, now_boot: tuple[str, int], *, running: bool) -> Found:
    damaged = paths.outbox.with_suffix(".damaged").exists()
    return judge_outbox(load_outbox(paths.outbox), now_boot, damaged=damaged, running=running)


def judge_outbox(outbox: OutboxStatus, now_boot: tuple[str, int], *, damaged: bool, running: bool) -> Found:
    if outbox.trouble:
        return failed(
            f"it cannot be read: {outbox.trouble}",
            "a damaged one is set aside at the next start of the agent",
        )
    words = describe_waiting(outbox.rows)
    same_boot = outbox.oldest_boot is not None and outbox.oldest_boot[0] == now_boot[0]
    age_s = (now_boot[1] - outbox.oldest_boot[1]) / 1000 if same_boot and outbox.oldest_boot else None
    if age_s is not None:
        words += f", the oldest for {describe_age(max(0.0, age_s))}"
    elif outbox.rows:
        words += ", the oldest from before this boot"
    if damaged:
        return attention(
            f"{words}; an earlier one was damaged", "outbox.damaged is kept to look at; remove it then"
        )
    if running and outbox.rows and (age_s is None or age_s > WAITING_S):
        return attention(words, "they wait for the controller: see the check of the link")
    return ok(words)
