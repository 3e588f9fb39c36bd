"""What is measured: methods, the steps that each of them gets, and which pairs of files are compared.

Both sides read this: Fleet's as passes (`fleet_side`), the peer's as JSON (`tfmot_side` runs in an
environment of its own, without this package).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

BATCH_SIZE: Final = 64
CALIBRATION: Final = 300

RATES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "train": 5e-4,
        "aware": 2e-4,
        "prune": 1e-3,
        "cluster": 1e-3,
        "log": 5e-4,
        "filters": 4e-3,
        "distil": 4e-3,
    }
)
"""Adam's learning rate at the first step of each of Fleet's fits; it falls to nothing along a cosine. For
filters and students of 1e-3 and 4e-3."""

PEER_RATES: Final[Mapping[str, float]] = MappingProxyType({"aware": 1e-4, "prune": 5e-4, "cluster": 2e-4})
"""Those of the peer. Each side has the ones that did best on validation images: of 5e-4, 1e-3, 2e-3 for
pruning, 2e-4, 5e-4, 1e-3 for clusters and 1e-4, 2e-4, 5e-4 for aware training."""

RATE: Final = 0.005
"""What a bit costs in Fleet's combined method; of 0.005, 0.02 and 0.03."""

FLOAT_EPOCHS: Final = 3
STUDENT_EPOCHS: Final = 6
"""It begins with nothing, and learns next to nothing in one."""
FILTER_EPOCHS: Final = 3
PATIENT_EPOCHS: Final = 15
"""With images changed at random: without, it learns the images that it sees, and no others."""

SPARSITIES: Final = (50, 65, 80)
ENTRIES: Final = (16, 32)


RESNET8: Final = "resnet8"
MOBILENET: Final = "mobilenetv2"
MOBILE: Final = "mobilenetv2-"
"""Before the names of methods that begin with that model."""


@dataclass(frozen=True)
class Method:
    """``name``: the same on both sides. ``epochs``: that it is trained; the reference of its drop is the
    float model after as many, at most `FLOAT_EPOCHS`. ``peer``: the peer has it too; ``quick``: in the short
    run; ``model``: what it begins with; ``augmented``: it sees images changed at random, and so does its
    reference; ``once``: one seed has to do."""

    name: str
    epochs: int
    peer: bool = False
    quick: bool = False
    model: str = RESNET8
    augmented: bool = False
    once: bool = False

    @property
    def is_trained(self) -> bool:
        return self.epochs > 0

    def is_wanted(self, seed: int, seeds: Sequence[int]) -> bool:
        """Tell whether it is made with this seed, one of ``seeds``."""
        return seed == seeds[0] or (self.is_trained and not self.once)

    @property
    def reference(self) -> str:
        return AUGMENTED if self.augmented else name_float(min(self.epochs, FLOAT_EPOCHS), self.model)


def name_float(epochs: int, model: str = RESNET8) -> str:
    name = f"float+{epochs}" if epochs else "float"
    return name if model == RESNET8 else f"{MOBILE}{name}"


AUGMENTED: Final = f"{name_float(PATIENT_EPOCHS)}-augmented"


def _plan() -> tuple[Method, ...]:
    floats = [
        Method(name_float(epochs), epochs, peer=epochs == 0, quick=epochs != 2)
        for epochs in range(FLOAT_EPOCHS + 1)
    ]
    floats.append(Method(AUGMENTED, PATIENT_EPOCHS, augmented=True, once=True))
    filters = [
        Method("filters-half", FILTER_EPOCHS, quick=True),
        Method("filters-half-scratch", FILTER_EPOCHS),
        Method("filters-half-patient", PATIENT_EPOCHS, augmented=True, once=True),
    ]
    single = [
        Method("int8", 0, peer=True, quick=True),
        Method("int8-aware", 1, peer=True, quick=True),
        Method("prune50-int8", 1, peer=True, quick=True),
        Method("cluster32", 1, peer=True, quick=True),
        Method("log5", 1, quick=True),
        *filters,
        Method("student", STUDENT_EPOCHS),
        Method("student-distilled", STUDENT_EPOCHS),
    ]
    grid = [
        Method(f"pcqat-{sparsity}-{entries}", 3, peer=True, quick=(sparsity, entries) == (50, 32))
        for sparsity in SPARSITIES
        for entries in ENTRIES
    ]
    mobile = [
        Method(f"{MOBILE}{name}", epochs, peer=peer, model=MOBILENET, once=True)
        for name, epochs, peer in (
            ("float", 0, True),
            ("float+1", 1, False),
            ("float16", 0, False),
            ("dynamic-range", 0, False),
            ("int16x8", 0, False),
            ("int8", 0, True),
            ("int8-aware", 1, True),
        )
    ]
    return (*floats, *single, *grid, *mobile)


METHODS: Final = _plan()


def find_method(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)
