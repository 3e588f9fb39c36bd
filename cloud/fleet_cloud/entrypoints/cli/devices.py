"""``fleet device list | show | label``."""

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleet_cloud.entrypoints.cli.connection import get_connection
from fleet_cloud.entrypoints.cli.output import (
    Format,
    Output,
    describe_age,
    describe_bytes,
    print_json,
    print_table,
)
from fleet_cloud.errors import Invalid

if TYPE_CHECKING:
    from fleet_cloud.client import DeviceView
    from fleet_cloud.client.views import MeasurementView
    from fleet_shared.messages.reported import Failure

WORKER_WORDS: Final = MappingProxyType(
    {
        "starting": "starts",
        "serving": "serves",
        "restarting": "ended, and is started again in a moment",
        "given-up": "ended too often in a row, and is tried again from time to time",
        "unknown": "in a state that this version of fleet does not know",
    }
)

app = typer.Typer(help="Devices, their labels, and their right to be here.", no_args_is_help=True)


@app.command("list")
def list_devices(
    context: typer.Context,
    selector: Annotated[str, typer.Argument(help="Which devices: site=berlin,fact.runtime=litert")] = "all",
    output: Output = Format.TABLE,
) -> None:
    """List devices."""
    with get_connection(context).open() as client:
        devices = list(client.devices(selector))
    if output is Format.JSON:
        print_json(devices)
        return
    rows = [(d.id, _link(d), _running(d), _labels(d), _last_seen(d)) for d in devices]
    nobody = (
        "no device yet: fleet device token" if selector.strip() == "all" else f"no device matches {selector}"
    )
    print_table(("device", "link", "runs", "labels", "seen"), rows, empty=nobody)


@app.command("show")
def show(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    output: Output = Format.TABLE,
) -> None:
    """Show what is known of one device."""
    with get_connection(context).open() as client:
        view = client.device(device)
        totals = client.totals(device)
        measurements = client.measurements(device)
    if output is Format.JSON:
        print_json({"device": view, "telemetry": totals, "measurements": measurements})
        return
    lines = {
        "device": view.id,
        "link": f"{_link(view)}, seen {_last_seen(view)} ago",
        "labels": _labels(view) or "none",
        "runs": _running(view) or "nothing yet",
        **_identity(view),
        **_facts(view),
        "telemetry": f"{totals.samples} samples, {totals.events} events, lost {totals.lost}, "
        f"duplicates {totals.duplicates}, thinned {totals.thinned}, pending {totals.pending}",
    }
    for name, value in lines.items():
        print(f"{name + ':':<11} {value}")
    _print_update(view)
    _print_worker(view)
    _print_trouble(view)
    if measurements:
        print("measured by devices like it:")
        rows = [_measured(one) for one in measurements]
        print_table(("variant", "runtime", "threads", "p50", "golden vectors", "by"), rows, empty="")


@app.command("label")
def label(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    changes: Annotated[list[str], typer.Argument(help="KEY=VALUE sets a label, KEY- removes it.")],
) -> None:
    """Set and remove labels of a device."""
    added, removed = parse_label_changes(changes)
    with get_connection(context).open() as client:
        view = client.label(device, added, removed)
    print(f"{view.id}: {_labels(view) or 'no labels'}")


def parse_label_changes(changes: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return labels to set and keys to remove, or raise `Invalid` naming the bad word."""
    added: dict[str, str] = {}
    removed: list[str] = []
    for change in changes:
        key, equal, value = change.partition("=")
        if equal and key and value:
            added[key] = value
        elif change.endswith("-") and not equal:
            removed.append(change[:-1])
        else:
            raise Invalid(
                f"label {change!r} does not parse",
                hint="write KEY=VALUE to set a label, KEY- to remove it",
                code="label.invalid",
            )
    return added, removed


def _link(device: "DeviceView") -> str:
    if device.revoked_ms is not None:
        return "revoked"
    return "online" if device.online else "offline"


def _running(device: "DeviceView") -> str:
    active = device.reported.active if device.reported else None
    return f"{active.model}:{active.version} ({active.variant})" if active else ""


def _measured(one: "MeasurementView") -> tuple[str, ...]:
    name = one.manifest[:12] if one.variant is None else f"{one.model}:{one.version} ({one.variant})"
    p50 = "-" if one.latency_p50_us is None else f"{one.latency_p50_us / 1000:.3f} ms"
    runtime, outcome = f"{one.runtime} {one.runtime_version}", "passed" if one.passed else "failed"
    return name, runtime, str(one.threads), p50, outcome, one.device


def _labels(device: "DeviceView") -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(device.labels.items()))


def _last_seen(device: "DeviceView") -> str:
    return "never" if device.last_seen_ms is None else describe_age(time.time() - device.last_seen_ms / 1000)


def _identity(device: "DeviceView") -> dict[str, str]:
    """When its certificate ends, as it says itself; an older agent does not."""
    trust = device.reported.trust if device.reported else None
    if trust is None or trust.certificate_expires_ms is None:
        return {}
    left_s = trust.certificate_expires_ms / 1000 - time.time()
    ends = f"ends in {describe_age(left_s)}" if left_s > 0 else f"ended {describe_age(-left_s)} ago"
    return {"identity": f"certificate {ends}, of the authority {trust.issuer[:16]}"}


def _facts(device: "DeviceView") -> dict[str, str]:
    if device.reported is None:
        return {}
    facts = device.reported.facts
    runtimes = ", ".join(f"{runtime.name} {runtime.version}" for runtime in facts.runtimes)
    missing = "; ".join(f"{one.name}: {one.reason}" for one in facts.runtimes_unavailable)
    return {
        "hardware": f"{facts.hardware or facts.machine}, {facts.cpu_count} cores, "
        f"{describe_bytes(facts.memory_bytes)} memory, {describe_bytes(facts.disk_bytes)} disk",
        "system": f"{facts.os}, Python {facts.python}, agent {facts.agent_version}",
        "runtimes": runtimes or "none",
        **({"not usable": missing} if missing else {}),
    }


def _print_update(device: "DeviceView") -> None:
    update = device.reported.update if device.reported else None
    if update is not None:
        _print_part("update", update.state.value, update.failure)


def _print_worker(device: "DeviceView") -> None:
    """How the inference worker is; nothing where no model is installed, or an older agent reports."""
    worker = device.reported.worker if device.reported else None
    if worker is not None:
        restarts = f" ({worker.restarts} restarts in a row)" if worker.restarts else ""
        _print_part(
            "worker", WORKER_WORDS.get(worker.state.value, worker.state.value) + restarts, worker.failure
        )


def _print_trouble(device: "DeviceView") -> None:
    for failure in device.reported.trouble if device.reported else ():
        _print_part("trouble", "this device cannot do all that it should", failure)


def _print_part(name: str, words: str, failure: "Failure | None") -> None:
    print(f"{name + ':':<11} {words}")
    if failure is not None:
        print(f"{'':<11} {failure.code}: {failure.message}")
    if failure is not None and failure.hint:
        print(f"{'':<11} hint: {failure.hint}")
