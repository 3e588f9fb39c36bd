"""A worker for builds of others: claims jobs at the controller, runs them, tells how it goes.

Each build is a process of its own, as on an operator's machine. While it says nothing, empty reports keep the
lease; when the controller says that the job is lost, the process ends.
"""

import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from fleet_cloud.client import Client
from fleet_cloud.client.views import BuildClaimView, BuildJobView, BuildReportRequest
from fleet_cloud.entrypoints.build_process import running_build
from fleet_cloud.entrypoints.bundles import unpack_bundle
from fleet_cloud.entrypoints.cli.connection import Connection
from fleet_cloud.entrypoints.registration import RETRY_DELAYS_S
from fleet_cloud.errors import Conflict, NotFound, Unavailable
from fleet_cloud.factory.events import Failed, Registered, parse_event
from fleet_shared.errors import FleetError
from fleet_shared.messages.reported import Failure
from fleet_shared.names import parse_digest

log = logging.getLogger(__name__)

REPORTS_PER_LEASE: Final = 4
"""Some may be lost."""
POLL_S: Final = 3.0
EVENTS_AT_ONCE: Final = 200


@dataclass
class BuildWorker:
    """``stopped``: ends the worker, and the build at hand, which is then given to another in a minute."""

    connection: Connection
    name: str
    allow_code: bool = False
    say: Callable[[str], None] = log.info
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, *, once: bool = False) -> None:
        """Take jobs until stopped; with ``once``, one. A controller that is away is asked again."""
        with self.connection.open() as client:
            while not self.stopped.is_set():
                claimed = self._claim(client)
                if claimed is None or claimed.job is None or claimed.bundle is None:
                    self.stopped.wait(POLL_S)
                    continue
                desk = _Desk(client, claimed.job, claimed.lease_ms / 1000 / REPORTS_PER_LEASE)
                self._take(client, claimed.job, claimed.bundle, desk)
                if once:
                    return

    def _claim(self, client: Client) -> BuildClaimView | None:
        try:
            return client.claim_build(self.name)
        except Unavailable as exc:
            log.warning("the controller is away: %s", exc.message)
            return None

    def _take(self, client: Client, job: BuildJobView, bundle: str, desk: "_Desk") -> None:
        self.say(f"build {job.id} of {job.model}, attempt {job.attempt}")
        try:
            with tempfile.TemporaryDirectory(prefix="fleet-worker-") as name:
                self._build(client, job, bundle, Path(name), desk)
        except (Conflict, NotFound) as exc:
            if exc.code not in ("build.job.lost", "build.job.unknown"):
                desk.fail(exc)
            self.say(f"build {job.id}: {exc.message}")
        except FleetError as exc:
            desk.fail(exc)
            self.say(f"build {job.id} failed: {exc.message}")

    def _build(self, client: Client, job: BuildJobView, bundle: str, folder: Path, desk: "_Desk") -> None:
        archive = folder / "bundle.zip"
        with archive.open("wb") as file:
            client.save_blob(parse_digest(bundle), file)
        recipe = unpack_bundle(archive, folder / "build", allow_code=self.allow_code)
        options = [] if job.version is None else ["--version", job.version]
        options += ["--allow-code"] if self.allow_code else []
        with running_build(["recipe", str(recipe), *options], self.connection, folder / "log") as process:
            lines: queue.Queue[bytes | None] = queue.Queue()
            reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True)
            reader.start()
            while not self.stopped.is_set():
                if not desk.pass_on(lines):
                    self.say(f"build {job.id} ended")
                    return


@dataclass
class _Desk:
    """Reports of one job, at least every ``every_s``."""

    client: Client
    job: BuildJobView
    every_s: float

    def pass_on(self, lines: "queue.Queue[bytes | None]") -> bool:
        """Report what was said within a while, nothing too; false once the build has ended."""
        said = _take_lines(lines, self.every_s)
        ended = None in said
        events = [line for line in said if line is not None]
        version, failure = None, None
        for line in events:
            event = parse_event(line)
            if isinstance(event, Registered):
                version = event.version
            elif isinstance(event, Failed):
                failure = Failure(code=event.code, message=event.message, hint=event.hint)
        if ended and version is None and failure is None:
            failure = Failure(code="build.process", message="the build process ended and gave no result")
        self._report([line.decode().strip() for line in events], version, failure)
        return not ended and version is None and failure is None

    def fail(self, exc: FleetError) -> None:
        """Tell of a build that cannot be done here; another worker could not either."""
        try:
            self._report([], None, Failure(code=exc.code, message=exc.message, hint=exc.hint))
        except FleetError as trouble:
            log.warning("build %s: its end is not reported: %s", self.job.id, trouble.message)

    def _report(self, events: list[str], version: str | None, failure: Failure | None) -> None:
        report = BuildReportRequest(attempt=self.job.attempt, events=events, version=version, failure=failure)
        try:
            self.client.report_build(self.job.id, report)
        except Unavailable as exc:
            if version is None and failure is None:
                log.warning("build %s: what it said is lost: %s", self.job.id, exc.message)
                return
            self._insist(report)

    def _insist(self, report: BuildReportRequest) -> None:
        """Report an end to a controller that was away; without it the build would begin anew."""
        for delay_s in RETRY_DELAYS_S:
            time.sleep(delay_s)
            with suppress(Unavailable):
                self.client.report_build(self.job.id, report)
                return
        log.error("build %s: its end could not be reported", self.job.id)


def _read_lines(source: IO[bytes] | None, lines: "queue.Queue[bytes | None]") -> None:
    for line in source or ():
        lines.put(line)
    lines.put(None)


def _take_lines(lines: "queue.Queue[bytes | None]", within_s: float) -> list[bytes | None]:
    """Return what comes within a while: at once when there is something."""
    taken: list[bytes | None] = []
    try:
        taken.append(lines.get(timeout=within_s))
        while len(taken) < EVENTS_AT_ONCE:
            taken.append(lines.get_nowait())
    except queue.Empty:
        pass
    return taken
