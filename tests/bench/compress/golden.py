"""Does every file that was made hold its golden vectors, on the runtimes that it claims?

    python -m tests.bench.compress.golden --data FOLDER

Vectors are made as a build makes them, from validation images; the agent's own code then loads each file
and runs them: on LiteRT, and on tflite-runtime 2.14 (`make tflite`) where Fleet's rules say that it can.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.canonical import canonicalise
from fleet_cloud.factory.golden import make_golden
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.quantization.targets import check_target
from fleet_shared.pixels import to_real
from tests.bench.compress.data import Images, load_cifar
from tests.bench.compress.make_float import CACHE
from tests.bench.compress.models import PREPROCESSING

CANDIDATES: Final = 64
INTERPRETERS: Final = {
    "litert": ("litert", Path(sys.executable)),
    "tflite-2.14": ("tflite_runtime", Path(".venvs") / "agent-tflite" / "bin" / "python"),
}
"""By target: the agent's name of its runtime, and the Python that has it."""

RUN: Final = """
import json, sys
from pathlib import Path
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.golden import has_passed, run_golden
from fleet_shared.manifest import Golden
runtime = load_runtime(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    model = runtime.load(asked["file"], 1)
    test = run_golden(model, Golden(**asked["rule"]), Path(asked["golden"]).read_bytes())
    print(json.dumps({
        "passed": has_passed(test), "difference": test.max_difference, "version": runtime.version,
    }), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """A file with its golden vectors, as lines of JSON name them."""

    name: str
    content: bytes
    asked: dict[str, Any]


def prepare(files: Sequence[Path], validation: Images, folder: Path) -> list[Case]:
    """Write the canonical file and the vectors of each below ``folder``."""
    cases = []
    for file in files:
        content = canonicalise(file.read_bytes())
        model = LiteModel(content)
        real = to_real(validation.x[:CANDIDATES], PREPROCESSING)
        vectors = make_golden(content, [[model.quantize(row[np.newaxis])] for row in real])
        path, golden = folder / file.name, folder / f"{file.stem}.npz"
        path.write_bytes(content)
        golden.write_bytes(vectors.content)
        rule = {
            "samples": vectors.rule.samples,
            "tolerance": vectors.rule.tolerance,
            "same_class": vectors.rule.same_class,
        }
        cases.append(Case(file.stem, content, {"file": str(path), "golden": str(golden), "rule": rule}))
    return cases


def claims(case: Case, target: str) -> bool:
    try:
        check_target(case.content, target)
    except BuildError:
        return False
    return True


def run(target: str, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return what the agent's code says of each case, in one process of the target's Python."""
    runtime, python = INTERPRETERS[target]
    lines = "".join(json.dumps(case.asked) + "\n" for case in cases)
    done = subprocess.run(
        [str(python), "-c", RUN, runtime], input=lines, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{target}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path(".bench") / "compress" / "all-images")
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.tflite"))
    with tempfile.TemporaryDirectory() as name:
        cases = prepare(files, load_cifar(given.data, CACHE).validation, Path(name))
        failed = 0
        for target in INTERPRETERS:
            claimed = [case for case in cases if claims(case, target)]
            found = run(target, claimed)
            passed = [one for one in found if one["passed"]]
            failed += len(claimed) - len(passed)
            version = found[0]["version"] if found else "?"
            print(f"{target} ({version}): {len(passed)} of {len(claimed)} files hold their golden vectors")
            for case, one in zip(claimed, found, strict=True):
                if not one["passed"]:
                    print(
                        f"  {case.name}: {one['difference']:g}, tolerance {case.asked['rule']['tolerance']:g}"
                    )
            if left := [case.name for case in cases if case not in claimed]:
                print(f"  {len(left)} do not claim it: {', '.join(left)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
