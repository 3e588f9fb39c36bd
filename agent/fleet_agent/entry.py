"""The command ``fleet-agent``. ``run`` is started without the command line's libraries: they would stay in
the memory of a process that lives for months. All else, and every wrong or unusual word, goes to `cli`,
which knows it all.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from fleet_agent.guard import guarded
from fleet_agent.settings import default_state

RUN_OPTIONS: Final = MappingProxyType(
    {"--state": str, "--http-port": int, "--threads": int, "--source": str, "--source-rate-hz": float}
)
"""The options of ``run``, as `cli` has them; a test compares the two."""


def parse_run(words: Sequence[str]) -> dict[str, str | int | float] | None:
    """Return the values of ``run``'s options by setting; none when this is not plainly a ``run``."""
    if not words or words[0] != "run":
        return None
    values: dict[str, str | int | float] = {}
    rest = list(words[1:])
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        kind = RUN_OPTIONS.get(name)
        if kind is None or (not equals and not rest):
            return None
        value = value if equals else rest.pop(0)
        try:
            values[name.removeprefix("--").replace("-", "_")] = kind(value)
        except ValueError:
            return None
    return values


def choose_state(given: str | float | None, environment: Mapping[str, str]) -> Path:
    named = given or environment.get("FLEET_AGENT_STATE")
    return Path(str(named)) if named else default_state()


def main() -> NoReturn:
    """Exit codes: 0 done, 1 it did not work, 2 wrong usage, 130 interrupted."""
    # Children are started as modules: none may be one that lies in the folder where root happens to be.
    os.environ["PYTHONSAFEPATH"] = "1"  # Python 3.11; systemd starts the agent in /
    flags = parse_run(sys.argv[1:])
    if flags is None:
        from fleet_agent import cli

        cli.main()
    from fleet_agent.running import run_agent

    state = choose_state(flags.pop("state", None), os.environ)
    guarded(lambda: run_agent(state, flags))
