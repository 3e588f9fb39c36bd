"""The ``fleet`` command as a person runs it."""

import os
import subprocess
from collections.abc import Mapping

from tests.kit.world import BIN


def fleet(
    server: str, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(BIN / "fleet"), "--server", server, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def start_fleet(server: str, *words: str) -> subprocess.Popen[str]:
    """Start a command; its two outputs are pipes."""
    return subprocess.Popen(
        [str(BIN / "fleet"), "--server", server, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
