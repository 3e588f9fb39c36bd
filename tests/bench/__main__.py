"""Run all benchmarks: ``make bench``."""

import json
from pathlib import Path

from tests.bench.agent_memory import measure_agent_growth, measure_agent_memory
from tests.bench.help_time import measure_help

OUT = Path(".bench")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    benches = {
        "help-time": measure_help,
        "agent-memory": measure_agent_memory,
        "agent-growth": measure_agent_growth,
    }
    for name, measure in benches.items():
        rows = measure()
        (OUT / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(f"\n{name}")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
