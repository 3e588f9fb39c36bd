"""The ``fleet`` command while it runs, for tests that send it a signal."""

import os
import subprocess
from typing import Final

from tests.kit.people import KIT_TOKEN
from tests.kit.world import BIN

DEFAULT_SIGNALS: Final = ("env", "--default-signal=HUP,INT,TERM")
"""Words before a command: whoever runs the tests may ignore signals, and a process inherits that."""


def start_fleet(server: str, *words: str, own_group: bool = False) -> subprocess.Popen[str]:
    """Start a command against the controller at ``server``; its two outputs are pipes. ``own_group``: with
    its children, so that all of them can get a signal together, as Ctrl-C sends it."""
    return subprocess.Popen(
        [*DEFAULT_SIGNALS, str(BIN / "fleet"), "--server", server, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0 if own_group else None,
        env={**os.environ, "FLEET_TOKEN": KIT_TOKEN},
    )
