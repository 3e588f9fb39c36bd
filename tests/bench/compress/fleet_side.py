"""Fleet's side: each method as the passes of a recipe, from the float weights and the same steps."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.operations import count_operations
from fleet_cloud.factory.passes import PASSES, run_pass
from fleet_cloud.factory.recipe.passes import (
    Cluster,
    Distil,
    Int8,
    LogQuantize,
    PruneFilters,
    PruneWeights,
    Settings,
    Train,
    Tune,
    name_pass,
)
from fleet_cloud.factory.repeatable import make_repeatable
from tests.bench.compress.data import Cifar
from tests.bench.compress.plan import (
    BATCH_SIZE,
    CALIBRATION,
    ENTRIES,
    RATES,
    SPARSITIES,
    Method,
    find_method,
    name_float,
)
from tests.bench.compress.resnet8 import PREPROCESSING, build_resnet8, load_resnet8
from tests.bench.compress.results import Made, keep, load_made

SIDE: Final = "fleet"
STUDENT_UNITS: Final = 8


def tune(kind: str, distil: Distil | None = None) -> Tune:
    return Tune(epochs=1, batch_size=BATCH_SIZE, learning_rate=RATES[kind], distil=distil)


def _plan_passes() -> dict[str, tuple[Settings, ...]]:
    int8 = Int8(calibration_samples=CALIBRATION)
    aware = Int8(aware=True, calibration_samples=CALIBRATION, tune=tune("aware"))
    again = Train(tune=tune("train"))
    prune = {share: PruneWeights(sparsity=share / 100, tune=tune("prune")) for share in SPARSITIES}
    return {
        **{name_float(epochs): (again,) * epochs for epochs in range(4)},
        "int8": (int8,),
        "int8-aware": (aware,),
        "prune50-int8": (prune[50], int8),
        **{f"cluster{count}": (Cluster(entries=count, tune=tune("cluster")),) for count in ENTRIES},
        **{
            f"prune50-cluster{count}": (prune[50], Cluster(entries=count, tune=tune("cluster")))
            for count in ENTRIES
        },
        "log5": (LogQuantize(bits=5, tune=tune("log")),),
        "filters-half": (PruneFilters(fraction=0.5, tune=tune("filters")),),
        "student": (Train(tune=tune("distil")),),
        "student-distilled": (Train(tune=tune("distil", Distil())),),
        **{
            f"pcqat-{share}-{count}": (
                prune[share], Cluster(entries=count, normalize=True, tune=tune("cluster")), aware
            )
            for share in SPARSITIES
            for count in ENTRIES
        },
    }  # fmt: skip


METHOD_PASSES: Final[Mapping[str, tuple[Settings, ...]]] = _plan_passes()


def make_all(
    methods: Sequence[Method], seeds: Sequence[int], cifar: Cifar, weights: Path, folder: Path
) -> None:
    """Make what is not there yet; say what this version of Fleet cannot make."""
    made = load_made(folder)
    for method in methods:
        if (why := find_lack(method)) is not None:
            print(f"  fleet {method.name}: left out, {why}", flush=True)
            continue
        for seed in seeds if method.is_trained else seeds[:1]:
            if (SIDE, method.name, seed) not in made:
                _make(method, seed, cifar, weights, folder)


def find_lack(method: Method) -> str | None:
    """Return why a method cannot be carried out by this version, or none."""
    passes = METHOD_PASSES.get(method.name)
    if passes is None:
        return "it is no list of passes"
    missing = [name_pass(settings) for settings in passes if type(settings) not in PASSES]
    return f"there is no pass {missing[0]}" if missing else None


def _make(method: Method, seed: int, cifar: Cifar, weights: Path, folder: Path) -> None:
    make_repeatable(seed)
    network = _begin(method, seed, weights)
    lab = make_lab(cifar, seed, weights)
    begin = time.monotonic()
    for settings in METHOD_PASSES[method.name]:
        network = run_pass(settings, network, lab).network
    content = convert(network, lab)
    made = Made(SIDE, method.name, seed, round(time.monotonic() - begin, 1), count_operations(network.model))
    keep(folder, made, content)
    print(f"  fleet {method.name}, seed {seed}: {len(content)} bytes, {made.seconds} s", flush=True)


def _begin(method: Method, seed: int, weights: Path) -> Network:
    """Return the float network, or a student that knows nothing yet."""
    if not method.name.startswith("student"):
        return Network(load_resnet8(weights))
    make_repeatable(seed)
    return Network(build_resnet8(STUDENT_UNITS))


def make_lab(cifar: Cifar, seed: int, weights: Path) -> Lab:
    teachers: dict[str, Any] = {"float": load_resnet8(weights)}
    return Lab(
        train=Part(cifar.train.x, cifar.train.y),
        validation=Part(cifar.validation.x, cifar.validation.y),
        preprocessing=PREPROCESSING,
        labels=cifar.labels,
        seed=seed,
        say=lambda _event: None,
        teachers=teachers,
    )


__all__ = ["find_lack", "find_method", "make_all", "make_lab"]
