"""``fleet-agent run`` is started without the command line's libraries; all else goes to them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fleet_agent.cli import app
from fleet_agent.entry import RUN_OPTIONS, choose_state, parse_run
from fleet_agent.settings import default_state


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], {}),
        (["run", "--state", "/x", "--http-port", "0"], {"state": "/x", "http_port": 0}),
        (["run", "--source-rate-hz=2.5", "--threads", "4"], {"source_rate_hz": 2.5, "threads": 4}),
        (["run", "--help"], None),
        (["run", "--http-port", "many"], None),
        (["run", "--http-port"], None),
        (["run", "elsewhere"], None),
        (["status"], None),
        ([], None),
    ],
)
def test_what_is_plainly_a_run(words: list[str], expected: dict[str, object] | None) -> None:
    assert parse_run(words) == expected


def test_run_has_the_same_options_in_both_places() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert {option for one in command.params for option in one.opts} - {"--help"} == set(RUN_OPTIONS)


def test_the_state_folder_is_found_as_the_command_line_finds_it() -> None:
    assert choose_state("/a", {"FLEET_AGENT_STATE": "/b"}) == Path("/a")
    assert choose_state(None, {"FLEET_AGENT_STATE": "/b"}) == Path("/b")
    assert choose_state(None, {}) == default_state()


def test_a_run_loads_no_command_line(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from fleet_agent.entry import main\n"
        f"sys.argv = ['fleet-agent', 'run', '--state', {str(tmp_path)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 1\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "error[agent.not_enrolled]" in done.stderr
    assert not {"typer", "rich", "pydantic"} & set(done.stdout.split())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no safe path")
def test_a_module_in_the_folder_where_a_command_is_given_is_not_run(tmp_path: Path) -> None:
    """``sudo fleet-agent ...`` in a folder where others may write."""
    (tmp_path / "msgspec.py").write_text("open('ran', 'w').close()")
    code = (
        "import sys, fleet_agent.trust_process as process, fleet_agent.trust.protocol as protocol\n"
        "import fleet_agent.entry as entry\n"
        "entry.guarded = lambda _command: print(process.TrustProcess().ask(\n"
        "    protocol.MakeKey(identity_dir='identity', device='pi-1')))\n"
        "sys.argv = ['fleet-agent', 'run']\n"
        "entry.main()\n"
    )
    roots = [str(Path(one).absolute()) for one in sys.path if one]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "KeyMade" in done.stdout, done
    assert not (tmp_path / "ran").exists()
