"""Compression methods beside their peer: ``make bench-compress``, ``python -m tests.bench.compress``.

From the same float ResNet8, on the same images, with the same steps, Fleet's passes and TensorFlow Model
Optimization make their files; LiteRT answers the test images with each of them. What was made before is not
made again: a run that was stopped goes on. Without the peer's environment (`scripts/env bench-tfmot`) its
rows are left out.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet_cloud.factory.keys import digest_file, make_key
from tests.bench.compress.aims import format_aims, judge
from tests.bench.compress.data import load_cifar
from tests.bench.compress.fleet_side import describe, make_all
from tests.bench.compress.make_float import CACHE
from tests.bench.compress.models import MODELS
from tests.bench.compress.plan import (
    BATCH_SIZE,
    CALIBRATION,
    METHODS,
    PEER_RATES,
    Method,
    find_method,
    name_float,
)
from tests.bench.compress.report import format_table, load_published, make_rows, write_page, write_report
from tests.bench.compress.results import LINES, Done, Key, Made, load_made
from tests.bench.compress.scoring import score_all
from tests.bench.data import VARIABLE

OUT: Final = Path(".bench") / "compress"
PEER: Final = Path(".venvs") / "bench-tfmot" / "bin" / "python"
PEER_SIDE: Final = Path(__file__).with_name("tfmot_side.py")
PEER_HOW: Final = make_key(dict(PEER_RATES), BATCH_SIZE, CALIBRATION)[:12]
REPORT: Final = Path("docs") / "benchmarks" / "compress.json"
PAGE: Final = Path("docs") / "benchmarks" / "compress.md"
SEEDS: Final = (1, 2, 3)
QUICK_IMAGES: Final = 10_000


def main() -> None:
    given = _parse()
    methods = [
        one for one in METHODS if (one.name in given.only if given.only else one.quick or not given.quick)
    ]
    images, seeds = given.images, tuple(given.seeds)
    folder = OUT / (f"{images}-images" if images else "all-images")
    folder.mkdir(parents=True, exist_ok=True)
    cifar = load_cifar(given.data, CACHE).limit(images)
    about = {
        "weights": {name: digest_file(model.file) for name, model in MODELS.items()},
        "train_images": len(cifar.train.y),
        "test_images": len(cifar.test.y),
    }
    published = load_published(REPORT, about) if given.go_on else []
    before = {one.made.key: one for one in published if _is_current(one.made)}
    floats = {("fleet", name_float(0, model), seeds[0]) for model in MODELS}  # to time others beside
    done = {*before} - floats | {*_load_current(folder)}
    if "fleet" in given.sides:
        make_all(methods, seeds, cifar, folder, done)
    if "tfmot" in given.sides:
        _make_peer(methods, seeds, images, folder, done)
    wanted = {(one.name, seed) for one in methods for seed in seeds if one.is_wanted(seed, seeds)}
    made = [one for one in _load_current(folder).values() if (one.method, one.seed) in wanted]
    scores = score_all(made, folder, cifar.test, timed=not given.untimed)
    here = {one.made.key: one for one in scores}
    timed = {key: one for key, one in before.items() if one.p50_us is not None}
    scores = [*{**before, **here, **timed}.values()]
    scores.sort(key=lambda one: (METHODS.index(find_method(one.made.method)), one.made.side, one.made.seed))
    rows = make_rows(scores)
    tables = format_table(rows)
    if not given.quick:
        tables += "\n" + format_aims(judge(rows, scores))
    write_report(rows, scores, about, folder / "compress.json")
    if given.publish:
        write_report(rows, scores, about, REPORT)
        write_page(tables, PAGE)
    print(tables)


def _load_current(folder: Path) -> dict[Key, Made]:
    return {key: made for key, made in load_made(folder).items() if _is_current(made)}


def _is_current(made: Made) -> bool:
    """Tell whether it was made as its method is today."""
    return made.how == (describe(find_method(made.method)) if made.side == "fleet" else PEER_HOW)


def _make_peer(
    methods: Sequence[Method],
    seeds: Sequence[int],
    images: int | None,
    folder: Path,
    done: Done,
) -> None:
    if not PEER.exists():
        print(f"  the peer is not installed ({PEER} is missing): `scripts/env bench-tfmot`")
        return
    missing = {
        seed: [
            one.name
            for one in methods
            if one.peer and one.is_wanted(seed, seeds) and ("tfmot", one.name, seed) not in done
        ]
        for seed in seeds
    }
    plan = {
        "folder": str(folder),
        "lines": LINES,
        "weights": {name: str(model.file) for name, model in MODELS.items()},
        "data": str(CACHE),
        "images": images,
        "batch_size": BATCH_SIZE,
        "calibration": CALIBRATION,
        "rates": dict(PEER_RATES),
        "how": PEER_HOW,
        "methods": {seed: names for seed, names in missing.items() if names},
    }
    if not plan["methods"]:
        return
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    subprocess.run([str(PEER), str(PEER_SIDE), str(file)], check=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.compress", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get(VARIABLE), help=f"folder; {VARIABLE}")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_IMAGES} images, one seed, fewer methods"
    )
    parser.add_argument("--images", type=int, help="so many for training, a tenth of it for each other split")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument(
        "--sides", nargs="*", choices=["fleet", "tfmot"], default=["fleet", "tfmot"],
        help="whose files are made; none: those that are there are measured",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=[one.name for one in METHODS], help="methods")
    parser.add_argument("--untimed", action="store_true", help="leave the latencies out")
    parser.add_argument("--go-on", action="store_true", help=f"what {REPORT} has is not measured again")
    parser.add_argument("--publish", action="store_true", help=f"write {REPORT} and {PAGE}")
    given = parser.parse_args()
    if given.data is None:
        parser.error(f"--data FOLDER (or {VARIABLE}) names the folder of cifar10.tar.xz")
    for model in MODELS.values():
        if not model.file.is_file():
            parser.error(f"{model.file} is missing: python -m tests.bench.compress.make_float writes it")
    if given.quick:
        given.images, given.seeds = given.images or QUICK_IMAGES, given.seeds[:1]
    given.data = Path(given.data)
    return given


if __name__ == "__main__":
    main()
