"""Reports of builds that never were: five variants of ten classes, one without data, a regression."""

from typing import Any

import numpy as np

from fleet_cloud.factory.evaluation.results import (
    Evaluation,
    Histogram,
    Latency,
    Memory,
    Samples,
    Size,
    TensorResult,
    Weights,
)
from fleet_cloud.factory.evaluation.scores import compare_outputs, score_classes, score_errors, write_right
from fleet_cloud.factory.evaluation.tensors import make_histogram
from fleet_cloud.factory.report.document import (
    DataReport,
    GateReport,
    PassReport,
    Report,
    TryReport,
    VariantReport,
)

DIGITS = tuple(str(number) for number in range(10))
DATA = DataReport(kind="digits", sha256="3f" * 32, train=1168, validation=270, test=359)
LINEAGE = {
    "recipe": {"model": "digits", "dataset": {"kind": "digits"}, "variants": [{"name": "fp32"}]},
    "data_sha256": "3f" * 32,
    "code_sha256": "c0" * 32,
    "libraries": {"keras": "3.15.1", "tensorflow": "2.21.0", "numpy": "2.3.0"},
}


def history(epochs: int, start: float) -> list[dict[str, float]]:
    return [
        {"epoch": n, "loss": start * 0.7**n + 0.02, "score": 0.985 - 0.3 * start * 0.6**n}
        for n in range(1, epochs + 1)
    ]


FILTERS_FACTS: dict[str, Any] = {
    "score": "l2",
    "scope": "layer",
    "asked": {"fraction": 0.3, "of": "operations"},
    "operations": {"before": 82_240, "after": 57_000},
    "parameters": {"before": 13_706, "after": 9_100},
    "filters": {"before": 40, "after": 28},
    "widths": {
        "conv2d": {"layers": ["conv2d", "conv2d_2"], "before": 8, "after": 8},
        "conv2d_1": {"layers": ["conv2d_1"], "before": 32, "after": 20},
    },
    "left_alone": {
        "odd": "LayerNormalization is not known to pruning",
        "dense_1": "it gives the model's output",
    },
    "rounds": [
        {
            "removed": removed,
            "operations": operations,
            "parameters": parameters,
            "reconstructed": {"dense": [0.4, 0.1]},
            "history": history(3, start),
            "best_epoch": 3,
        }
        for removed, operations, parameters, start in ((6, 69_000, 11_400, 0.9), (6, 57_000, 9_100, 0.5))
    ],
}
"""What `prune-filters` says of two rounds."""


def weights(zeros: float, distinct: int, seed: int = 1) -> Weights:
    random = np.random.default_rng(seed)
    values = random.normal(scale=0.2, size=13_584).astype(np.float32)
    if distinct < 255:
        levels = np.quantile(values, (np.arange(distinct) + 0.5) / distinct)
        values = levels[np.abs(values[:, np.newaxis] - levels).argmin(axis=1)].astype(np.float32)
    if zeros:
        values[np.abs(values) < np.quantile(np.abs(values), zeros)] = 0
    zero = int((values == 0).sum())
    tensor = TensorResult(
        name="conv2d/kernel", dtype="int8", shape=(32, 3, 3, 16), values=13_584, zeros=zero, distinct=distinct
    )
    return Weights(
        values=13_584,
        zeros=zero,
        distinct_max=distinct,
        tensors=(tensor,),
        histogram=make_histogram([values]),
    )


def classified(
    name: str, wrong: int, file_bytes: int, us: float, *, zeros: float = 0, distinct: int = 255
) -> Evaluation:
    """An evaluation on 359 samples of ten classes, ``wrong`` of them wrong, and none by the float model's
    own mistakes but 5."""
    random = np.random.default_rng(wrong)
    truth = random.integers(0, 10, 359)
    floats = np.eye(10)[truth] * 0.8 + random.random((359, 10)) * 0.1
    floats[:5] = np.roll(floats[:5], 1, axis=1)
    outputs = floats + random.normal(scale=0.01, size=floats.shape)
    outputs[:wrong] = np.roll(np.eye(10)[truth[:wrong]], 1, axis=1)
    classes = score_classes(outputs, truth, DIGITS)
    return Evaluation(
        variant=name,
        samples=Samples(split="test", count=359, sha256="5a" * 32),
        size=Size(
            file_bytes=file_bytes,
            wire_bytes={
                "identity": file_bytes,
                "zstd": file_bytes * 9 // 10,
                "xz": file_bytes * 88 // 100,
                "codebook": file_bytes * 9 // 10 if distinct > 200 else file_bytes * 4 // 10,
            },
        ),
        memory=Memory(estimate_bytes=3 * file_bytes, peak_bytes=2 * file_bytes + 30_000),
        weights=weights(zeros, distinct),
        latencies=(
            Latency(runtime="litert", threads=1, runs=200, p50_us=us, p10_us=us * 0.94, p90_us=us * 1.2),
            Latency(runtime="tvm", threads=1, runs=64, p50_us=2 * us, p10_us=1.9 * us, p90_us=2.3 * us),
        ),
        classification=classes,
        against_float=compare_outputs(outputs, floats, truth, classes=True),
        parameters=13_706,
        operations=82_240,
        right=write_right(outputs, truth),
    )


def five_variants() -> Report:
    train = PassReport(
        name="training", facts={"history": history(20, 2.0)}, seconds=31.4, validation_score=0.985
    )
    prune = PassReport(
        name="prune-weights",
        settings={"sparsity": 0.6, "pattern": "single", "scope": "layer"},
        facts={"sparsity": 0.6, "history": history(5, 0.4)},
        validation_score=0.9815,
        seconds=12.1,
        cached=True,
    )
    int8 = PassReport(
        name="int8",
        settings={"aware": False, "recover": 2},
        facts={
            "float_layers": ["dense_1"],
            "goal_reached": True,
            "sensitivity": [
                {"layer": name, "noise": noise}
                for name, noise in (
                    ("conv2d", 0.0021),
                    ("conv2d_1", 0.0007),
                    ("dense", 0.0004),
                    ("dense_1", 0.0093),
                )
            ],
        },
        validation_score=0.978,
        seconds=1.8,
    )
    cluster = PassReport(
        name="cluster",
        settings={"entries": 32, "group": 1, "per": "tensor"},
        facts={"entries": 32, "rate": 5.0, "history": history(4, 0.6)},
        validation_score=0.98,
        seconds=9.9,
    )
    filters = PassReport(
        name="prune-filters",
        settings={"fraction": 0.3, "score": "l2", "rounds": 2, "tune": {"epochs": 3}},
        facts=FILTERS_FACTS,
        validation_score=0.972,
        seconds=14.0,
    )
    gates = (
        GateReport(name="accuracy_drop_max", bound=0.02, found=0.0037, held=True),
        GateReport(name="size_max_bytes", bound=60_000, found=21_144, held=True),
    )
    tried = TryReport(
        passes="prune-weights 0.8, int8", failed=("validation accuracy 0.9510 is below accuracy_min 0.9700",)
    )
    variants = (
        VariantReport(evaluation=classified("fp32", 5, 58_480, 8.57, distinct=8191), target="litert"),
        VariantReport(
            evaluation=classified("int8", 6, 21_144, 9.5), passes=(int8,), gates=gates, target="litert"
        ),
        VariantReport(
            evaluation=classified("int8-pruned", 9, 21_144, 9.41, zeros=0.6),
            passes=(prune, int8),
            tried=(tried,),
            gates=gates,
            target="tflite-2.14",
        ),
        VariantReport(
            evaluation=classified("clustered-32", 7, 58_480, 8.7, distinct=32),
            passes=(cluster,),
            target="litert",
        ),
        VariantReport(evaluation=classified("slim", 14, 31_000, 5.2), passes=(filters,), target="openvino"),
    )
    return Report(
        model="digits",
        labels=DIGITS,
        variants=variants,
        data=DATA,
        training=train,
        float_weights=weights(0, 8191),
        lineage=LINEAGE,
    )


def without_data() -> Report:
    """A model that somebody brought: no samples, nothing trained."""
    size = Size(file_bytes=449_000, wire_bytes={"identity": 449_000, "zstd": 401_200, "xz": 395_000})
    histogram = Histogram(low=-1, high=1, counts=(1, 5, 9, 5, 1), zeros=3)
    evaluation = Evaluation(
        variant="fp16",
        samples=None,
        size=size,
        memory=Memory(estimate_bytes=2_000_000),
        weights=Weights(values=24, zeros=3, distinct_max=20, tensors=(), histogram=histogram),
        latencies=(Latency(runtime="litert", threads=1, runs=200, p50_us=2110, p10_us=2050, p90_us=2800),),
    )
    return Report(model="vww", variants=(VariantReport(evaluation=evaluation),))


def regression() -> Report:
    random = np.random.default_rng(4)
    truth = random.normal(20, 5, size=(400, 1))
    floats = truth + random.normal(scale=0.5, size=truth.shape)
    found = []
    for name, noise, file_bytes, us in (("fp32", 0.0, 12_000, 3.1), ("int8", 0.4, 5_100, 2.9)):
        outputs = floats + random.normal(scale=noise, size=truth.shape) if noise else floats
        evaluation = Evaluation(
            variant=name,
            samples=Samples(split="test", count=400, sha256="7b" * 32),
            size=Size(file_bytes=file_bytes, wire_bytes={"identity": file_bytes}),
            memory=Memory(estimate_bytes=40_000, peak_bytes=32_768),
            weights=weights(0, 255),
            latencies=(
                Latency(runtime="litert", threads=1, runs=200, p50_us=us, p10_us=us - 0.2, p90_us=us + 1),
            ),
            regression=score_errors(outputs, truth),
            against_float=compare_outputs(outputs, floats, truth, classes=False),
        )
        found.append(VariantReport(evaluation=evaluation))
    return Report(
        model="temperature", task="regression", variants=tuple(found), float_weights=weights(0, 255)
    )
