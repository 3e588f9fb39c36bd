"""The command line as a person uses it."""

import os
import subprocess
from collections.abc import Mapping

from tests.kit.people import KIT_TOKEN
from tests.kit.world import BIN


def run_fleet(
    server: str, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run ``fleet`` to its end, against the controller at ``server``, as an admin."""
    return subprocess.run(
        [str(BIN / "fleet"), "--server", server, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FLEET_TOKEN": KIT_TOKEN, **(environment or {})},
        timeout=timeout_s,
    )
