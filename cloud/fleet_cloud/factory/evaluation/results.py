"""What was found out about the variants of a build, as it stands in ``report.json``. Imports only msgspec.

Shares are fractions from 0 to 1; every interval is one of 95 %. None means unknown or not measured. Within
schema 1 only optional fields are added; unknown ones are ignored.
"""

from typing import Final

import msgspec

LITERT: Final = "litert"
"""The runtime that every file is timed with, all files in turns; others time each file alone."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a 95 % interval."""

    low: float
    high: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number that samples gave, and how far it can be trusted."""

    value: float
    interval: Interval | None = None


class ClassResult(msgspec.Struct, frozen=True, kw_only=True):
    """``samples``: of this class. ``precision``: the share of right ones among those that the model took for
    this class, none if it took none. ``recall``: the share of this class that it found. ``auc``: this
    class against all others."""

    label: str
    samples: int
    precision: float | None
    recall: float | None
    auc: float | None = None


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """So many ``samples`` of the class ``label`` are taken for another one. ``share``: of the class."""

    label: str
    taken_for: str
    samples: int
    share: float


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """``top1``: its interval is Wilson's. ``confusion[i][j]``: samples of class i that the model takes for
    class j; empty beyond 200 classes. ``mistakes``: the most common, at most 50. ``auc``: of class 1 where
    there are two, else the mean over the classes, each against all others; none if a class has no
    samples."""

    top1: Estimate
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]
    auc: float | None = None
    mistakes: tuple[Mistake, ...] = ()


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """In the unit of the target, over all outputs. ``r2``: 1 - residual / total sum of squares, the mean over
    the outputs; none if a target never changes."""

    mae: Estimate
    rmse: Estimate
    r2: float | None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """A variant against the float model on the same samples. ``agreement``: the share of samples with the
    same class (classification). ``drop``: how much top-1 is lost (classification), or RMSE is added
    (regression); negative where the variant is better; the interval is a paired one. ``difference_mean``,
    ``difference_max``: of the outputs, in their real unit."""

    agreement: Estimate | None
    drop: Estimate | None
    difference_mean: float
    difference_max: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One inference of one sample, over ``runs`` that took turns with the other variants'."""

    runtime: str
    threads: int
    runs: int
    p50_us: float
    p10_us: float
    p90_us: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """``estimate_bytes``: file and all tensors, as the contract has it: no planner shares anything.
    ``peak_bytes``: what loading the file and running it added to the resident memory of a process of its own,
    with LiteRT, at most; none where the system does not tell (not Linux)."""

    estimate_bytes: int
    peak_bytes: int | None = None


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """``wire_bytes``: the file in each encoding that can carry it to a device (``identity`` is the file), and
    ``xz`` for comparison."""

    file_bytes: int
    wire_bytes: dict[str, int] = {}

    @property
    def least_bytes(self) -> int:
        """The fewest bytes by which a device can get the file: xz is none of Fleet's encodings."""
        return min((size for name, size in self.wire_bytes.items() if name != "xz"), default=self.file_bytes)


class TensorResult(msgspec.Struct, frozen=True, kw_only=True):
    """A constant of the file with two axes or more: a weight. ``distinct``: so many different values as they
    are stored (codes, not real numbers)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: int
    zeros: int
    distinct: int


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of real values in bins of equal width between ``low`` and ``high``; zeros are counted apart."""

    low: float
    high: float
    counts: tuple[int, ...]
    zeros: int


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """All weights of the file. ``distinct_max``: of the tensor with the most different values."""

    values: int
    zeros: int
    distinct_max: int
    tensors: tuple[TensorResult, ...]
    histogram: Histogram | None = None

    @property
    def sparsity(self) -> float:
        return self.zeros / self.values if self.values else 0.0


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant was judged on. ``split``: ``test``, ``validation``, or what else it is called.
    ``sha256`` names the samples in their order: results with the same name can be compared pair by pair."""

    split: str
    count: int
    sha256: str = ""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All about one file. ``right``: one bit for each sample, first sample first, set where the class is
    right (base64 of whole bytes, most significant bit first); so two evaluations on the same samples can be
    compared pair by pair. ``operations``: multiply-accumulates of one inference."""

    variant: str
    samples: Samples | None
    size: Size
    memory: Memory
    weights: Weights
    latencies: tuple[Latency, ...] = ()
    classification: Classification | None = None
    regression: Regression | None = None
    against_float: Against | None = None
    parameters: int | None = None
    operations: int | None = None
    right: str = ""

    @property
    def accuracy(self) -> float | None:
        return None if self.classification is None else self.classification.top1.value

    @property
    def latency(self) -> Latency | None:
        """With LiteRT on one thread, where it was measured."""
        return next((one for one in self.latencies if one.runtime == LITERT), None)
