"""What the install script would do on which machine; `make test-arm64` lets it do it."""

import os
import subprocess
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
