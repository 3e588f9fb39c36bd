"""Loaded models in folders of their own, real ones and one that a test holds back or makes fail."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.litert import LiteRt
from fleet_agent.runtimes.port import Array, Model
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.slot import load_slot
from fleet_agent.worker.statistics import Statistics
from fleet_cloud.factory.package import Package, package
from fleet_shared.manifest import (
    BlobRef,
    Metrics,
    Preprocessing,
    Role,
    compose_manifest,
    encode_manifest,
    parse_manifest,
)
from fleet_shared.names import Digest, ModelName, VariantName, digest_of
from tests.kit.packages import LABELS, make_package

FILES = {"model": "model.tflite", "golden": "golden.npz", "labels": "labels.txt"}


def write_slot(
    folder: Path, one: Package | None = None, *, model: str = "tiny", version: str = "1.0.0"
) -> Path:
    """Install a package as an agent would: the tiny classifier of 8 numbers by default."""
    one = one or make_package()
    folder.mkdir(parents=True, exist_ok=True)
    for role, content in one.blobs.items():
        (folder / FILES[role.value]).write_bytes(content)
    manifest = compose_manifest(
        model=ModelName(model), version=version, variant=VariantName("fp32"), contract=one.contract,
        blobs=one.refs,
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def manifest_of(folder: Path) -> Digest:
    """Return what a slot is named by; anything, for a folder that is none."""
    file = folder / "manifest.json"
    return digest_of(file.read_bytes()) if file.is_file() else Digest("a" * 64)


def replace_file(folder: Path, role: Role, content: bytes) -> None:
    """Let a slot be one that was released with another file."""
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    ref = BlobRef(sha256=digest_of(content), size_bytes=len(content))
    other = msgspec.structs.replace(manifest, blobs={**manifest.blobs, role: ref})
    (folder / FILES[role.value]).write_bytes(content)
    (folder / "manifest.json").write_bytes(encode_manifest(other))


def package_of(model: bytes, shapes: Sequence[tuple[int, ...]], colour: str | None = None) -> Package:
    """Return any float model with golden vectors of random inputs of these shapes."""
    random = np.random.default_rng(0)
    return package(
        "fp32",
        model,
        labels=LABELS,
        preprocessing=Preprocessing(colour=colour, scale=1 / 255 if colour else 1.0),
        metrics=Metrics(),
        candidates=[[random.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(16)],
    )


def edit_golden(folder: Path, name: str, edit: Any) -> None:
    with np.load(folder / "golden.npz") as archive:
        arrays: dict[str, NDArray[Any]] = dict(archive)
    arrays[name] = edit(arrays[name])
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    replace_file(folder, Role.GOLDEN, buffer.getvalue())


@dataclass
class HeldModel:
    """A real model that computes only while ``go`` is set, and fails for each entry of ``failures``."""

    real: Model
    go: threading.Event = field(default_factory=threading.Event)
    failures: list[WorkerError | RuntimeError | MemoryError] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.inputs, self.outputs = self.real.inputs, self.real.outputs
        self.go.set()

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        self.calls += 1
        assert self.go.wait(30)
        if self.failures:
            raise self.failures.pop(0)
        return self.real.invoke(inputs)


def load_engine(folder: Path, statistics: Statistics | None = None) -> Engine:
    return Engine(
        load_slot(folder, manifest_of(folder)),
        LiteRt(),
        1,
        statistics or Statistics(Random(1)),
    )


def hold(engine: Engine) -> HeldModel:
    held = HeldModel(engine.model)
    engine.model = held
    return held
