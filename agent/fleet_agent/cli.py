"""``fleet-agent``: enrol this device, run the agent, look at its state."""

import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from fleet_agent import __version__
from fleet_agent.errors import SettingsError
from fleet_agent.settings import default_state, load_settings
from fleet_shared.errors import FleetError

FAILED: Final = 1
INTERRUPTED: Final = 130
BRIDGE_CONFIG: Final = Path("/etc/fleet-agent/bridge.toml")
REPORT_PREFIX: Final = "fleet-agent-error-"
REPORTS_KEPT: Final = 5
"""A service manager starts an agent that fails again and again."""

app = typer.Typer(
    help="Fleet's device agent: pulls, verifies and serves models, and reports back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

State = Annotated[
    Path,
    typer.Option(
        "--state",
        envvar="FLEET_AGENT_STATE",
        help="Folder of the agent's state.",
        show_default="/var/lib/fleet-agent for root, else below the home folder",
    ),
]


@app.command()
def enrol(
    url: Annotated[str, typer.Argument(help="Address of the controller.")],
    token: Annotated[str, typer.Option(envvar="FLEET_AGENT_TOKEN", help="From: fleet device token.")],
    device: Annotated[str | None, typer.Option("--id", help="Id of this device; else its host name.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to keep trying while the controller is away.")] = 0.0,
    state: State = default_state(),  # noqa: B008 - shown as the default in the help
) -> None:
    """Give this device an identity at a controller."""
    from fleet_agent.enrol import enrol as enrol_device
    from fleet_agent.enrol import suggest_device_id
    from fleet_agent.paths import StatePaths
    from fleet_shared.names import parse_device_id
    from fleet_shared.token import EnrolmentToken

    paths = StatePaths(state)
    name = parse_device_id(device) if device else suggest_device_id(socket.gethostname())
    with _state_mapped(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (paths.identity / "device.json").exists():
            raise SettingsError(
                f"this device is enrolled already ({paths.identity})",
                hint="to enrol it anew, remove that folder first",
                code="agent.enrolled",
            )
        identity = enrol_device(url, EnrolmentToken.parse(token), name, paths, wait)
    where = "" if state == default_state() else f" --state {state}"
    print(f"enrolled as {identity.device} at {identity.controller_url}; now: fleet-agent run{where}")


@app.command()
def run(
    state: State = default_state(),  # noqa: B008
    http_port: Annotated[int | None, typer.Option(help="Port for inference on loopback; 0: any.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the interpreter.")] = None,
    source: Annotated[str | None, typer.Option(help="Samples to replay: images, .npz, or camera:0.")] = None,
    source_rate_hz: Annotated[float | None, typer.Option(help="Samples per second.")] = None,
) -> None:
    """Run the agent until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _state_mapped(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = {
        "http_port": http_port,
        "threads": threads,
        "source": source,
        "source_rate_hz": source_rate_hz,
    }
    settings = load_settings(state, os.environ, flags)
    from fleet_agent.bootstrap import build_supervisor
    from fleet_agent.logs import add_log_file
    from fleet_agent.paths import StatePaths

    add_log_file(StatePaths(state).log, settings.log_bytes, settings.log_files)
    with _only_one(state), build_supervisor(settings) as supervisor:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.run()


@app.command()
def status(
    state: State = default_state(),  # noqa: B008
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this device is, runs and does, from its state folder."""
    from fleet_agent.status import describe_status, load_status

    found = load_status(state)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(describe_status(found))


@app.command()
def bridge(
    config: Annotated[Path, typer.Option(help="The bridge's settings (bridge.toml).")] = BRIDGE_CONFIG,
    state: State = default_state(),  # noqa: B008 - only to find the socket for inference
) -> None:
    """Carry inference over topics of a local broker, with credentials of its own."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from fleet_agent.bridge.main import run_bridge

    run_bridge(config, state / "inference.sock")


@app.command()
def benchmark(
    state: State = default_state(),  # noqa: B008
    runs: Annotated[int, typer.Option(help="Timed runs of each row.", min=50, max=100_000)] = 50,
    threads: Annotated[str, typer.Option(help="Numbers of threads, separated by commas.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure every runtime and number of threads on the installed model."""
    from fleet_agent.benchmark.command import parse_threads, run_benchmark
    from fleet_agent.bootstrap import find_device_runtimes

    counts, settings = parse_threads(threads), load_settings(state, os.environ, {})
    run_benchmark(state, lambda: find_device_runtimes(settings).usable, counts, runs, as_json=as_json)


@app.command()
def version() -> None:
    """Print the version."""
    print(f"fleet-agent {__version__}")


def main() -> NoReturn:
    """Exit codes: 0 done, 1 it did not work, 2 wrong usage, 130 interrupted."""
    try:
        app()
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


@contextmanager
def _state_mapped(state: Path) -> Iterator[None]:
    """Whatever keeps the state folder from being used is one error."""
    try:
        yield
    except OSError as exc:
        raise SettingsError(
            f"the state folder {state} cannot be used: {exc}",
            hint="choose another: --state DIR, or FLEET_AGENT_STATE; is its disk full?",
            code="agent.state",
        ) from exc


@contextmanager
def _only_one(state: Path) -> Iterator[None]:
    with _state_mapped(state):
        lock = _open_lock(state)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise SettingsError(
            f"another agent runs on {state}",
            hint="stop that one first, or choose another --state",
            code="agent.running",
        ) from exc
    try:
        yield
    finally:
        os.close(lock)


def _open_lock(state: Path) -> int:
    """Open the lock file; on a read-only disk that has none, the folder itself."""
    try:
        return os.open(state / "lock", os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
        return os.open(state, os.O_RDONLY)
