"""What the install script would do on which machine; `make test-arm64` lets it do it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.world import ROOT

pytestmark = pytest.mark.system

SCRIPT = ROOT / "deploy" / "install" / "install.sh"


def make_python(folder: Path, version: str) -> Path:
    """A Python that tells its version and can make environments, and does nothing else."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *version_info*) echo {version} ;; *ensurepip*) ;; *) echo x ;; esac\n'
    )
    python.chmod(0o755)
    return python


def plan(folder: Path, machine: str, version: str, *options: str) -> subprocess.CompletedProcess[str]:
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    for name in ("fleet_shared", "fleet_agent"):
        (wheels / f"{name}-0.1.0-py3-none-any.whl").touch()
    words = [
        str(SCRIPT),
        "--dry-run",
        "--wheels",
        str(wheels),
        "--python",
        str(make_python(folder, version)),
        *options,
    ]
    return subprocess.run(
        words, capture_output=True, text=True, check=False,
        env={**os.environ, "FLEET_INSTALL_MACHINE": machine},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "version", "options", "expected"),
    [
        ("aarch64", "3.11", (), "runtime litert"),  # Raspberry Pi OS Bookworm
        ("aarch64", "3.13", (), "runtime litert"),  # Raspberry Pi OS Trixie
        ("aarch64", "3.10", (), "runtime litert"),  # JetPack 6
        ("aarch64", "3.11", ("--runtime", "tflite"), "runtime tflite"),
        ("armv7l", "3.11", (), "runtime tflite"),
    ],
)
def test_each_machine_gets_the_runtime_that_has_a_wheel(
    tmp_path: Path, machine: str, version: str, options: tuple[str, ...], expected: str
) -> None:
    done = plan(tmp_path, machine, version, *options)
    assert done.returncode == 0, done.stderr
    assert f"Python {version} on {machine}, {expected}" in done.stdout
    assert not Path("/opt/fleet-agent").exists() or "would run" in done.stdout


@pytest.mark.parametrize(
    ("machine", "version", "options", "expected"),
    [
        ("armv7l", "3.13", (), "tflite-runtime ends at Python 3.11"),
        ("armv7l", "3.11", ("--runtime", "litert"), "LiteRT has no wheel"),
        ("aarch64", "3.13", ("--runtime", "tflite"), "tflite-runtime ends at Python 3.11"),
        ("aarch64", "3.9", (), "does not fit"),
        ("riscv64", "3.11", (), "no runtime for riscv64"),
        ("aarch64", "3.11", ("--purge",), "--purge goes with --uninstall"),
        ("aarch64", "3.11", ("--elsewhere",), "unknown option"),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(
    tmp_path: Path, machine: str, version: str, options: tuple[str, ...], expected: str
) -> None:
    done = plan(tmp_path, machine, version, *options)
    assert done.returncode == 1
    assert "fleet-agent: error: " in done.stderr
    assert expected in done.stderr


STUBS = {
    "python": (
        'case "$2" in\n*version_info*) echo 3.11 ;;\n*ensurepip*) ;;\nvenv)\n'
        '  mkdir -p "$3/bin"; for name in python fleet-agent; do\n'
        '    printf \'#!/bin/sh\\necho "$*" >>"$FLEET_INSTALL_ROOT/calls"\\n\' >"$3/bin/$name";'
        ' chmod +x "$3/bin/$name"; done ;;\n*) echo x ;;\nesac'
    ),
    "id": 'case "$1" in -u) echo 0 ;; *) echo fleet-agent video render ;; esac',
    "getent": ":",
    "userdel": ":",
    "systemctl": (
        'cd "$FLEET_INSTALL_ROOT"; echo "$*" >>systemctl\n'
        '[ "$1" != restart ] || [ ! -e fails ] || { rm fails; exit 1; }'
    ),
}
"""What the script calls and a test must not: systemd, users, and a Python whose environments are empty."""


@dataclass
class Machine:
    """A folder that the script takes for the machine. Its device is enrolled, and runs systemd."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("bin", "wheels", "root/run/systemd/system", "root/var/lib/fleet-agent/identity"):
            (self.folder / name).mkdir(parents=True)
        (self.root / "var/lib/fleet-agent/identity/device.json").touch()
        for name, text in STUBS.items():
            stub = self.folder / "bin" / name
            stub.write_text(f"#!/bin/sh\n{text}\n")
            stub.chmod(0o755)
        (self.folder / "wheels/fleet_shared-0.1.0-py3-none-any.whl").touch()

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def opt(self) -> Path:
        return self.root / "opt/fleet-agent"

    def install(self, version: str) -> subprocess.CompletedProcess[str]:
        for wheel in (self.folder / "wheels").glob("fleet_agent-*"):
            wheel.unlink()
        (self.folder / f"wheels/fleet_agent-{version}-py3-none-any.whl").write_text(version)
        return self.run("--wheels", str(self.folder / "wheels"), "--python", str(self.folder / "bin/python"))

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-c", 'umask 077; exec "$@"', "sh", str(SCRIPT), *options],
            capture_output=True, text=True, check=False,
            env={"PATH": path, "FLEET_INSTALL_ROOT": str(self.root), "FLEET_INSTALL_MACHINE": "aarch64"},
        )  # fmt: skip

    def environments(self) -> set[Path]:
        return set((self.opt / "venvs").iterdir())


def test_install_again_upgrade_and_uninstall(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    done = machine.install("0.1.0")
    assert done.returncode == 0, done.stderr
    first = (machine.opt / "current").readlink()
    assert (machine.root / "etc/systemd/system/fleet-agent.service").exists()
    (packages,) = [line for line in (machine.root / "calls").read_text().splitlines() if "agent.txt" in line]
    assert {"--require-hashes", "--only-binary", "--no-index"} <= set(packages.split())
    # A root whose files are for itself alone: the agent's user must be able to start the agent all the same.
    for path in (machine.opt, first, first / "bin/fleet-agent", machine.root / "etc/fleet-agent/environment"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    (machine.root / "systemctl").unlink()
    again = machine.install("0.1.0")
    assert "nothing to change" in again.stdout
    assert "restart" not in (machine.root / "systemctl").read_text()
    for version in ("0.2.0", "0.3.0"):
        assert machine.install(version).returncode == 0
    current, previous = (machine.opt / "current").readlink(), (machine.opt / "previous").readlink()
    assert machine.environments() == {current, previous}
    assert first not in {current, previous}
    assert machine.run("--uninstall").returncode == 0
    assert not machine.opt.exists()
    assert (machine.root / "var/lib/fleet-agent/identity").exists(), "state stays"
    assert machine.run("--uninstall", "--purge").returncode == 0
    assert not (machine.root / "var/lib/fleet-agent").exists()


def test_an_upgrade_that_does_not_come_up_gives_way_to_the_agent_before(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.install("0.1.0").returncode == 0
    before = (machine.opt / "current").readlink()
    (machine.root / "fails").touch()
    done = machine.install("0.2.0")
    assert done.returncode == 1
    assert "the new agent does not come up, the one before runs again" in done.stderr
    assert (machine.opt / "current").readlink() == before
    assert (machine.root / "systemctl").read_text().splitlines()[-1] == "restart fleet-agent.service"
    assert machine.install("0.2.0").returncode == 0, "another try"
    assert (machine.opt / "current").readlink() != before
    assert (machine.opt / "previous").readlink() == before


def test_a_first_install_that_does_not_come_up_is_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.root / "fails").touch()
    done = machine.install("0.1.0")
    assert done.returncode == 1
    assert "the service does not start" in done.stderr


def test_a_dry_run_says_that_nothing_was_done(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.install("0.1.0").returncode == 0
    for options in (["--dry-run"], ["--dry-run", "--uninstall", "--purge"]):
        done = plan(tmp_path, "aarch64", "3.11") if len(options) == 1 else machine.run(*options)
        assert done.returncode == 0, done.stderr
        assert "nothing was done: this was a dry run" in done.stdout
        assert not any(word in done.stdout for word in ("installed\n", "removed"))
    assert machine.opt.exists()
