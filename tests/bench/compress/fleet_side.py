"""Fleet's side: each method as the passes of a recipe, from the float weights and the same steps."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import keras

from fleet_cloud.factory.augmentation import make_augmentation
from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.keeping import CacheKeeper
from fleet_cloud.factory.keys import digest_file, make_file_key, make_key
from fleet_cloud.factory.lab import Lab, Part
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.operations import count_operations
from fleet_cloud.factory.outcome import Outcome
from fleet_cloud.factory.pipeline import Made as Pipelined
from fleet_cloud.factory.pipeline import Pipeline, Place
from fleet_cloud.factory.recipe import Augment
from fleet_cloud.factory.recipe.passes import (
    Cluster,
    Distil,
    DynamicRange,
    Float16,
    Int8,
    Int16x8,
    LogQuantize,
    PruneFilters,
    PruneWeights,
    Settings,
    Train,
    Tune,
)
from fleet_cloud.factory.repeatable import fix_threads, make_repeatable
from tests.bench.compress.data import Cifar
from tests.bench.compress.models import MODELS, PREPROCESSING, RESNET8, STUDENT, FloatModel
from tests.bench.compress.plan import (
    AUGMENTED,
    BATCH_SIZE,
    CALIBRATION,
    ENTRIES,
    FILTER_EPOCHS,
    FLOAT_EPOCHS,
    MOBILE,
    PATIENT_EPOCHS,
    RATE,
    RATES,
    SPARSITIES,
    STUDENT_EPOCHS,
    Method,
    name_float,
)
from tests.bench.compress.results import Done, Made, keep

SIDE: Final = "fleet"
HALF: Final = "filters-half"
SCRATCH: Final = "filters-half-scratch"
PATIENT: Final = "filters-half-patient"
AUGMENT: Final = Augment(flip="horizontal", crop_padding=2)
HALF_OF_OPERATIONS: Final = 0.515
"""Of widths that are multiples of 8, those nearest to this leave 48 %; those nearest to a half, 52 %."""

LATE_SUMS: Final = (
    "stage2_block1_second_conv",
    "stage2_block1_shortcut",
    "stage3_block1_second_conv",
    "stage3_block1_shortcut",
)
"""Their filters stay: the later residual sums cost few operations, and all that follows hangs on them."""


def tune(kind: str, distil: Distil | None = None, epochs: int = 1) -> Tune:
    return Tune(epochs=epochs, batch_size=BATCH_SIZE, learning_rate=RATES[kind], distil=distil)


def learn(kind: str, epochs: int = 1) -> Tune:
    """With the float model as the teacher."""
    return tune(kind, Distil(weight=0.7), epochs)


def halve(epochs: int) -> PruneFilters:
    return PruneFilters(fraction=HALF_OF_OPERATIONS, skip=LATE_SUMS, tune=learn("filters", epochs))


def _plan_passes() -> dict[str, tuple[Settings, ...]]:
    int8 = Int8(calibration_samples=CALIBRATION)
    aware = Int8(aware=True, calibration_samples=CALIBRATION, tune=tune("aware"))
    again = Train(tune=tune("train"))
    prune = {
        share: PruneWeights(sparsity=share / 100, scope="adaptive", tune=learn("prune"))
        for share in SPARSITIES
    }
    priced = {
        count: Cluster(
            entries=count, normalize=True, rate=RATE, weigh="loss", change=True, tune=learn("cluster")
        )
        for count in ENTRIES
    }
    return {
        **{name_float(epochs): (again,) * epochs for epochs in range(FLOAT_EPOCHS + 1)},
        "int8": (int8,),
        "int8-aware": (aware,),
        "prune50-int8": (prune[50], int8),
        "cluster32": (Cluster(entries=32, tune=learn("cluster")),),
        "log5": (LogQuantize(bits=5, tune=learn("log")),),
        HALF: (halve(FILTER_EPOCHS),),
        SCRATCH: (Train(tune=learn("filters", FILTER_EPOCHS)),),
        PATIENT: (halve(PATIENT_EPOCHS),),
        AUGMENTED: (Train(tune=tune("train", epochs=PATIENT_EPOCHS)),),
        "student": (Train(tune=tune("distil", epochs=STUDENT_EPOCHS)),),
        "student-distilled": (Train(tune=tune("distil", Distil(weight=0.5, temperature=2), STUDENT_EPOCHS)),),
        **{
            f"pcqat-{share}-{count}": (prune[share], priced[count], aware)
            for share in SPARSITIES
            for count in ENTRIES
        },
        f"{MOBILE}float": (),
        f"{MOBILE}float+1": (again,),
        f"{MOBILE}float16": (Float16(),),
        f"{MOBILE}dynamic-range": (DynamicRange(),),
        f"{MOBILE}int16x8": (Int16x8(calibration_samples=CALIBRATION),),
        f"{MOBILE}int8": (int8,),
        f"{MOBILE}int8-aware": (aware,),
    }


METHOD_PASSES: Final[Mapping[str, tuple[Settings, ...]]] = _plan_passes()


def describe(method: Method) -> str:
    """Return a digest of what a method is asked for, teachers and starts aside."""
    seen = [AUGMENT] if method.augmented else []
    return make_key(METHOD_PASSES[method.name], *seen, *_find_shape(method.name))[:12]


def _find_shape(name: str) -> list[tuple[Settings, ...]]:
    """Return the passes whose shape a start has, if it is not a model's own."""
    return [METHOD_PASSES[HALF]] if name == SCRATCH else []


class Side:
    """Fleet's methods with one seed, those that see images ``augmented`` or those that do not. What methods
    have in common is computed once: each pass is kept by its key, as in a build."""

    def __init__(self, seed: int, cifar: Cifar, folder: Path, augmented: bool) -> None:
        self._seed, self._folder = seed, folder
        self._lab = make_lab(cifar, seed, AUGMENT if augmented else None)
        changed = [AUGMENT] if augmented else []
        self._samples = make_key("cifar-10", len(cifar.train.y), seed, *changed)
        cache = Cache(folder / "cache", warn=print)
        keeper = CacheKeeper(cache, print)
        self._pipelines = {name: Pipeline(self._lab, name, keeper) for name in MODELS}
        for name, pipeline in self._pipelines.items():
            load = partial(self._load, MODELS[name])
            pipeline.add_teacher("float", self._key(name), load)

    def make(self, method: Method) -> None:
        begin = time.monotonic()
        pipeline = self._pipelines[method.model]
        made = pipeline.run(method.name, self._find_base(method), METHOD_PASSES[method.name])
        content = convert(made.network, self._lab)
        seconds = round(time.monotonic() - begin, 1)
        operations = count_operations(made.network.model)
        keep(
            self._folder,
            Made(SIDE, method.name, self._seed, seconds, operations, describe(method)),
            content,
        )
        print(f"  fleet {method.name}, seed {self._seed}: {len(content)} bytes, {seconds} s", flush=True)

    def _find_base(self, method: Method) -> Pipelined:
        """Return a float network, or one that knows nothing yet: a student, or a smaller shape."""
        if method.name.startswith("student"):
            return self._begin(STUDENT.name, lambda: Network(STUDENT.build()))
        if method.name == SCRATCH:
            return self._begin(SCRATCH, self._forget_half)
        return self._load(MODELS[method.model])

    def _load(self, model: FloatModel) -> Pipelined:
        return self._begin(model.name, lambda: Network(model.load()))

    def _forget_half(self) -> Network:
        """Return the shape that half of the filters leave, with new weights."""
        half = self._pipelines[RESNET8.name].run(HALF, self._load(RESNET8), METHOD_PASSES[HALF])
        make_repeatable(self._seed)
        return Network(keras.models.clone_model(half.network.model))

    def _begin(self, name: str, make: Callable[[], Network]) -> Pipelined:
        pipeline = self._pipelines[name if name in MODELS else RESNET8.name]
        return pipeline.begin(Place(name), self._key(name), lambda _lab: Outcome(make()))

    def _key(self, name: str) -> str:
        file = MODELS.get(name, RESNET8).file
        return make_file_key(self._samples, make_key(name, digest_file(file), *_find_shape(name)))


def make_all(methods: Sequence[Method], seeds: Sequence[int], cifar: Cifar, folder: Path, done: Done) -> None:
    """Make what is neither there nor ``done`` elsewhere, seed by seed."""
    fix_threads()
    for seed in seeds:
        sides = {augmented: Side(seed, cifar, folder, augmented) for augmented in (False, True)}
        for method in methods:
            if method.is_wanted(seed, seeds) and (SIDE, method.name, seed) not in done:
                sides[method.augmented].make(method)


def make_lab(cifar: Cifar, seed: int, augment: Augment | None = None) -> Lab:
    return Lab(
        train=Part(cifar.train.x, cifar.train.y),
        validation=Part(cifar.validation.x, cifar.validation.y),
        preprocessing=PREPROCESSING,
        labels=cifar.labels,
        seed=seed,
        say=lambda _event: None,
        augment=make_augmentation(augment, cifar.train.x, PREPROCESSING, seed),
    )
