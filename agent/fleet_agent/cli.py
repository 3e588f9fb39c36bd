"""``fleet-agent``: enrol this device, run the agent, look at its state."""

import socket
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from fleet_agent import __version__
from fleet_agent.errors import SettingsError
from fleet_agent.guard import guarded
from fleet_agent.settings import default_state

BRIDGE_CONFIG: Final = Path("/etc/fleet-agent/bridge.toml")

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
        readable=False,  # what may not be read is said with what to do, and not as wrong usage
        show_default="/var/lib/fleet-agent for root or where it exists, else below the home folder",
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
    from fleet_agent.enrol import suggest_device_id, warn_of
    from fleet_agent.lock import state_mapped
    from fleet_agent.ownership import left_to_owner
    from fleet_agent.paths import StatePaths
    from fleet_shared.names import parse_device_id
    from fleet_shared.token import EnrolmentToken

    paths = StatePaths(state)
    name = parse_device_id(device) if device else suggest_device_id(socket.gethostname())
    with state_mapped(state), left_to_owner(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (paths.identity / "device.json").exists():
            raise SettingsError(
                f"this device is enrolled already ({paths.identity})",
                hint="to enrol it anew, remove that folder first",
                code="agent.enrolled",
            )
        if warning := warn_of(url):
            print(f"warning: {warning}", file=sys.stderr)
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
    flags = {
        "http_port": http_port,
        "threads": threads,
        "source": source,
        "source_rate_hz": source_rate_hz,
    }
    from fleet_agent.running import run_agent

    run_agent(state, flags)


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
    import logging

    from fleet_agent.bridge.main import run_bridge

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    run_bridge(config, state / "inference.sock")


@app.command()
def benchmark(
    state: State = default_state(),  # noqa: B008
    runs: Annotated[int, typer.Option(help="Timed runs of each row.", min=50, max=100_000)] = 50,
    threads: Annotated[str, typer.Option(help="Numbers of threads, separated by commas.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure every runtime and number of threads on the installed model."""
    import os

    from fleet_agent.benchmark.command import parse_threads, run_benchmark
    from fleet_agent.bootstrap import find_device_runtimes, worker_limits
    from fleet_agent.ownership import left_to_owner
    from fleet_agent.settings import load_settings

    settings = load_settings(state, os.environ, {})
    counts = parse_threads(threads, settings.worker_cpus)
    found, limits = lambda: find_device_runtimes(settings).usable, worker_limits(settings)
    with left_to_owner(state):
        run_benchmark(state, found, counts, runs, limits=limits, as_json=as_json)


@app.command()
def doctor(
    state: State = default_state(),  # noqa: B008
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this device, in plain words, with what to do; exit code 1 when a check failed."""
    import os

    from fleet_agent.doctor import describe_findings, examine, has_failed
    from fleet_agent.settings import load_settings

    findings = examine(load_settings(state, os.environ, {}))
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        print(describe_findings(findings))
    if has_failed(findings):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    print(f"fleet-agent {__version__}")


def main() -> NoReturn:
    """Exit codes: 0 done, 1 it did not work, 2 wrong usage, 130 interrupted."""
    guarded(app)
