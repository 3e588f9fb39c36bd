"""The ``fleet`` command while it runs, for tests that send it a signal."""

import subprocess

from tests.kit.world import BIN


def start_fleet(server: str, *words: str) -> subprocess.Popen[str]:
    """Start a command against the controller at ``server``; its two outputs are pipes."""
    return subprocess.Popen(
        [str(BIN / "fleet"), "--server", server, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
