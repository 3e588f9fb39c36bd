"""``fleet-agent doctor``: looks at this device from outside of the agent, and changes nothing.

Works with the agent running or stopped, as root or as the agent's user, enrolled or not. Each check is a rule
(`judge_...`, pure) and a look.
"""

from collections.abc import Sequence
from functools import partial

from fleet_agent.doctor import controller, machine, model
from fleet_agent.doctor.finding import Check, Finding, Found, Verdict, failed, ok, skipped
from fleet_agent.errors import AgentError
from fleet_agent.floor import judge_time, load_floor_ms
from fleet_agent.identity import Identity, load_identity
from fleet_agent.lock import is_running
from fleet_agent.paths import StatePaths
from fleet_agent.settings import Settings
from fleet_agent.telemetry.clock import DeviceClock
from fleet_agent.transfer.ways import Transfers, parse_transfers


def examine(settings: Settings) -> list[Finding]:
    """Make all checks; one that breaks is a finding itself."""
    return [_carry_out(name, check) for name, check in plan_checks(settings)]


def plan_checks(settings: Settings) -> list[tuple[str, Check]]:
    paths = StatePaths(settings.state)
    identity = _load_identity(paths)
    stamp = DeviceClock(partial(load_floor_ms, paths.floor)).now()
    running = _is_running(paths)
    checks: list[tuple[str, Check]] = [
        ("service", machine.check_service),
        ("agent", partial(_say_running, running=running, identity=identity)),
        ("clock", partial(machine.check_clock, paths)),
        ("disk", partial(machine.check_disk, settings)),
        ("memory", partial(machine.check_memory, settings)),
        ("temperature", partial(machine.check_temperature, settings)),
        ("power", machine.check_power),
        ("runtime", partial(model.check_runtime, settings)),
    ]
    if isinstance(identity, AgentError):
        return [*checks, ("enrolment", partial(failed, identity.message, identity.hint))]
    now = partial(judge_time, paths.floor, stamp.wall_ms)
    now_boot = (stamp.boot_id, stamp.boot_ms)
    return [
        *checks,
        ("enrolment", partial(_say_enrolled, identity)),
        ("certificate", partial(controller.check_certificate, paths, stamp.wall_ms)),
        ("trust", partial(controller.check_trust, paths, stamp.wall_ms)),
        ("link", partial(controller.check_broker, identity, paths, now, running=running)),
        ("controller", partial(_check_controller, settings, identity, paths, now)),
        ("model", partial(model.check_model, paths)),
        ("worker", partial(model.check_worker, paths, running=running)),
        ("last update", partial(model.check_update, paths)),
        ("outbox", partial(model.check_outbox, paths, now_boot, running=running)),
    ]


def _check_controller(
    settings: Settings, identity: Identity, paths: StatePaths, now: controller.Now
) -> Found:
    if parse_transfers(settings.transfers) is Transfers.MQTT:
        return skipped("everything comes over the broker: transfers = mqtt")
    return controller.check_controller(identity, paths, now)


def has_failed(findings: Sequence[Finding]) -> bool:
    return any(finding.verdict is Verdict.FAILED for finding in findings)


def describe_findings(findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict.value:<10} {finding.check:<12} {finding.message}")
        if finding.hint:
            lines.append(f"{'':<24}{finding.hint}")
    return "\n".join(lines)


def _carry_out(name: str, check: Check) -> Finding:
    try:
        found = check()
    except PermissionError as exc:
        found = failed(
            f"{exc.filename or 'a file'} may not be read by this user",
            "run it as root or as the user of the agent: sudo fleet-agent doctor",
        )
    except AgentError as error:
        found = failed(error.message, error.hint)
    except Exception as exc:  # noqa: BLE001 - a check that breaks must not hide the others
        found = failed(f"the check broke: {type(exc).__name__}: {exc}", "please report it")
    return Finding(check=name, verdict=found.verdict, message=found.message, hint=found.hint)


def _is_running(paths: StatePaths) -> bool:
    try:
        return is_running(paths.root)
    except OSError:
        return False


def _load_identity(paths: StatePaths) -> Identity | AgentError:
    try:
        return load_identity(paths.identity)
    except AgentError as error:
        return error


def _say_running(*, running: bool, identity: Identity | AgentError) -> Found:
    if running:
        return ok("it runs")
    if isinstance(identity, AgentError) and identity.code == "agent.not_enrolled":
        return skipped("it has nothing to do before this device is enrolled")
    return failed("it does not run", "systemctl start fleet-agent, or fleet-agent run")


def _say_enrolled(identity: Identity) -> Found:
    return ok(f"{identity.device} at {identity.controller_url}")
