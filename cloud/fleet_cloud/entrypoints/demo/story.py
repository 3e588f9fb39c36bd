"""The demo, told in order."""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fleet_cloud.client import Client
from fleet_cloud.entrypoints.build_process import follow_build
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.cli.output import describe_fraction
from fleet_cloud.entrypoints.demo.attacks import Refusal, publish_foreign_desired, push_damaged_blob
from fleet_cloud.entrypoints.demo.devices import DemoDevice, find_tflite_agent, plan_devices, start_device
from fleet_cloud.entrypoints.demo.processes import ControllerAddresses, DemoError, Processes
from fleet_cloud.entrypoints.demo.report import (
    DemoReport,
    DeviceReport,
    ModelReport,
    Seconds,
    count_labelled,
    report_device,
    report_model,
    report_telemetry,
)
from fleet_cloud.entrypoints.demo.waiting import wait_for
from fleet_cloud.factory.events import BuildEvent, Registered
from fleet_shared.messages.reported import Reported

RECIPE: Final = """\
model: digits
dataset: {kind: digits}
architecture: {kind: small-cnn, units: 16}
training: {epochs: 25, seed: 1}
variants:
  - {name: fp32}
  - {name: int8, passes: [{pass: int8}]}
gates: {accuracy_min: 0.95, accuracy_drop_max: 0.01}
"""


@dataclass
class Story:
    """``tell`` prints a line; ``show`` one event of the build; ``hand_out`` the report, once there is
    one: with ``keep``, everything goes on after that until somebody ends it."""

    count: int
    keep: bool
    tell: Callable[[str], None]
    show: Callable[[BuildEvent], None]
    hand_out: Callable[[DemoReport], None]

    def run(self) -> None:
        """Play it; raise `DemoError` when something does not come out as it must. Everything that
        was started ends, however this ends. The folder goes too, unless ``keep``, or a failure that
        its logs may explain."""
        folder = Path(tempfile.mkdtemp(prefix="fleet-demo-"))
        processes = Processes(folder)
        keeps = self.keep
        try:
            addresses = processes.start_controller(folder / "controller")
            self.hand_out(self._play(folder, processes, addresses))
            if self.keep:
                self._wait(folder, addresses)
        except Exception:
            keeps = True
            raise
        finally:
            processes.close()
            if keeps:
                self.tell(f"logs and state are kept in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def _play(self, folder: Path, processes: Processes, addresses: ControllerAddresses) -> DemoReport:
        self.tell("1. A controller, with its own broker, database and blob store")
        self.tell(f"   API {addresses.api}, broker {addresses.broker}")
        begin = time.monotonic()
        registered, source = self._build(folder, addresses)
        build_s = time.monotonic() - begin
        with Client(addresses.api, addresses.token, addresses.ca_file) as client:
            devices = self._start_devices(folder, addresses.api, source, client, processes)
            model = report_model(client, registered.model, registered.version)
            begin = time.monotonic()
            states = self._push(addresses, f"{registered.model}:{registered.version}", processes)
            push_s = time.monotonic() - begin
            self._watch(client, registered, devices, states)
            refused = self._attack(client, model, devices, addresses, folder)
            ids = [device.id for device in devices]
            reports = [report_device(client, name, states[name]) for name in ids]
            self._check(model, reports, registered.version)
            telemetry = report_telemetry(client, ids)
        self.tell(f"   telemetry: {telemetry.samples} samples, lost {telemetry.lost}")
        seconds = Seconds(build=round(build_s, 1), push=round(push_s, 1))
        return DemoReport(model=model, devices=reports, telemetry=telemetry, refused=refused, seconds=seconds)

    def _build(self, folder: Path, addresses: ControllerAddresses) -> tuple[Registered, Path]:
        self.tell("2. Train on handwritten digits, and compress")
        recipe, source = folder / "digits.yaml", folder / "held-out.npz"
        recipe.write_text(RECIPE)
        registered: Registered | None = None
        log = folder / "build.log"
        arguments = ["recipe", str(recipe), "--held-out", str(source)]
        connection = Connection(addresses.api, addresses.token, addresses.ca_file)
        with closing(follow_build(arguments, connection, log)) as events:
            for event in events:
                self.show(event)
                if isinstance(event, Registered):
                    registered = event
        if registered is None:
            raise DemoError("the build registered nothing")
        self.tell(f"   registered {registered.model}:{registered.version}")
        return registered, source

    def _start_devices(
        self, folder: Path, api: str, source: Path, client: Client, processes: Processes
    ) -> list[DemoDevice]:
        devices = plan_devices(self.count, folder)
        self.tell(f"3. Enrol {len(devices)} devices, each with a one-time token, and start their agents")
        if find_tflite_agent() is None:
            self.tell("   (no environment for tflite-runtime here: it needs Python 3.11 or older)")
        for device in devices:
            start_device(device, api, source, client, processes)
        for device in devices:
            wait_for(
                f"{device.id} to report itself", partial(_load_reported, client, device.id), timeout_s=60
            )
            view = client.device(device.id)
            runtimes = view.reported.facts.runtimes if view.reported else ()
            names = ", ".join(f"{r.name} {r.version}" for r in runtimes)
            self.tell(f"   {device.id}  site={device.site}  {names}")
        return devices

    def _push(self, addresses: ControllerAddresses, model: str, processes: Processes) -> dict[str, str]:
        self.tell(f"4. fleet push {model} --to all")
        ended = processes.push(addresses, model, "--to", "all", "--soak", "1", "--deadline", "120")
        if ended.state != "succeeded":  # the command itself has said which device, and why
            raise DemoError(f"the push ended as {ended.state}", hint=f"see the logs in {processes.logs}")
        self.tell(f"   {model} runs on all {len(ended.assignments)} devices")
        return {a.device: a.state for a in ended.assignments}

    def _watch(
        self, client: Client, registered: Registered, devices: list[DemoDevice], states: dict[str, str]
    ) -> None:
        self.tell("5. Inference on the held-out digits; telemetry comes back")
        version = client.version(registered.model, registered.version)
        held_out = max(v.contract.metrics.test_samples or 0 for v in version.variants)
        for device in devices:
            wait_for(
                f"{device.id} to go through the held-out digits",
                partial(_has_seen, client, device.id, held_out),
            )
        self.tell("   device  version  variant  runtime         accuracy  p50       memory")
        for device in devices:
            r = report_device(client, device.id, states[device.id])
            p50 = "-" if r.p50_ms is None else f"{r.p50_ms:.3f} ms"
            self.tell(
                f"   {r.id:<7} {r.version:<8} {r.variant:<8} {r.runtime:<15} "
                f"{describe_fraction(r.accuracy):<9} {p50:<9} {r.rss_mib:.0f} MiB"
            )

    def _attack(
        self,
        client: Client,
        model: ModelReport,
        devices: list[DemoDevice],
        addresses: ControllerAddresses,
        folder: Path,
    ) -> list[Refusal]:
        self.tell("6. Two attacks")
        first, last = devices[0].id, devices[-1].id
        running = client.device(first).reported
        active = running.active.variant if running and running.active else ""
        other = next(v.name for v in model.variants if v.name != active)
        name = f"{model.name}:{model.version}"
        damaged = push_damaged_blob(client, name, first, other, Path(addresses.blobs))
        stolen, stranger = folder / "controller" / "tls", folder / "stranger"
        foreign = publish_foreign_desired(client, last, addresses.broker, stolen, stranger)
        for refusal in (damaged, foreign):
            self.tell(f"   {refusal.device} refuses {refusal.what}")
            self.tell(f"         {refusal.code}: {refusal.why}")
        return [damaged, foreign]

    def _check(self, model: ModelReport, reports: list[DeviceReport], version: str) -> None:
        for report in reports:
            if report.version != version or not report.variant:
                raise DemoError(f"{report.id} does not run the good model any more")
        self.tell(f"   all {len(reports)} devices go on with {model.name}:{version}")

    def _wait(self, folder: Path, addresses: ControllerAddresses) -> None:
        self.tell(f"everything goes on in {folder}; Ctrl-C ends it")
        self.tell(f"   API     {addresses.api}")
        self.tell(f"   broker  {addresses.broker}")
        self.tell(f"   export FLEET_SERVER={addresses.local} FLEET_DATA={addresses.data}")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            self.tell("ending")


def _load_reported(client: Client, device: str) -> Reported | None:
    return client.device(device).reported


def _has_seen(client: Client, device: str, samples: int) -> bool | None:
    return True if count_labelled(client, device) >= samples else None
