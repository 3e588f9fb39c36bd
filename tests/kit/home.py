"""A person's account on a machine: the command line with a home folder of its own, and nothing inherited."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FLEET = (sys.executable, "-c", "from fleet_cloud.entrypoints.cli import main; main()")


@dataclass
class Home:
    """``environment``: what the person has exported."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / ".config" / "fleet"

    def fleet(self, *words: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``typed`` is its standard input."""
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        return subprocess.run(
            [*FLEET, *words],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**kept, "HOME": str(self.folder), **self.environment, **environment},
        )

    def expect(self, *words: str, typed: str = "", **environment: str) -> str:
        """Run a command that must go well; return what it prints."""
        done = self.fleet(*words, typed=typed, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str, typed: str = "", **environment: str) -> str:
        """Run a command that must fail, with a code and a hint; return what it says."""
        done = self.fleet(*words, typed=typed, **environment)
        assert done.returncode == 1
        assert "error[" in done.stderr
        assert "hint:" in done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr
