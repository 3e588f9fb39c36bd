"""Run all benchmarks, or those that are named: ``make bench``, ``python -m tests.bench serving swap``."""

import argparse
import json
import os
from pathlib import Path

from tests.bench.agent_memory import measure_agent_growth, measure_agent_memory
from tests.bench.data import VARIABLE
from tests.bench.help_time import measure_help
from tests.bench.serving import measure_serving
from tests.bench.swap import measure_swap
from tests.bench.transfer import measure_transfer

OUT = Path(".bench")
BENCHMARKS = {
    "help-time": measure_help,
    "agent-memory": measure_agent_memory,
    "agent-growth": measure_agent_growth,
    "serving": measure_serving,
    "swap": measure_swap,
    "transfer": measure_transfer,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="all of them if none is named")
    parser.add_argument("--data", help=f"folder of models that are not in this repository; {VARIABLE}")
    given = parser.parse_args()
    if given.data:
        os.environ[VARIABLE] = given.data
    OUT.mkdir(exist_ok=True)
    for name in given.names or BENCHMARKS:
        print(f"\n{name}")
        rows = BENCHMARKS[name]()
        (OUT / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
