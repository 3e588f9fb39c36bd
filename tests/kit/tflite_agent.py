"""The agent on tflite-runtime, in the environment that ``make tflite`` keeps for it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def find_tflite_agent() -> Path | None:
    """Return its command; none where no Python fits (it needs 3.11 or older)."""
    agent = ROOT / ".venvs" / "agent-tflite" / "bin" / "fleet-agent"
    return agent if agent.exists() else None
