"""Run the agent in this process, until it is told to stop."""

import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet_agent.lock import only_one, state_mapped
from fleet_agent.service import take_service
from fleet_agent.settings import load_settings


def run_agent(state: Path, flags: Mapping[str, Any]) -> None:
    """Returns after SIGTERM or SIGINT. Raises `AgentError` when the agent cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    service = take_service(os.environ)
    with state_mapped(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = load_settings(state, os.environ, flags)
    from fleet_agent.bootstrap import build_supervisor
    from fleet_agent.logs import add_log_file
    from fleet_agent.paths import StatePaths

    add_log_file(StatePaths(state).log, settings.log_bytes, settings.log_files)
    with only_one(state), build_supervisor(settings) as supervisor:
        supervisor.service = service
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.run()
