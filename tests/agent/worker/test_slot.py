"""A worker loads what was verified, whatever somebody does to the files meanwhile."""

import os
from pathlib import Path
from random import Random

import numpy as np
import pytest

from fleet_agent.errors import WorkerError
from fleet_agent.runtimes.loading import load_runtime
from fleet_agent.worker.engine import Engine
from fleet_agent.worker.sealed import SealedFile
from fleet_agent.worker.slot import load_slot
from fleet_agent.worker.statistics import Statistics
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.names import digest_of
from tests.kit.engine import FILES, load_engine, manifest_of, replace_file, write_slot
from tests.kit.tiny_model import make_tiny_model


def ref(content: bytes) -> BlobRef:
    return BlobRef(sha256=digest_of(content), size_bytes=len(content))


@pytest.mark.parametrize("name", [*FILES.values(), "manifest.json"])
def test_a_blob_that_was_swapped_after_the_verification_is_not_loaded(tmp_path: Path, name: str) -> None:
    slot = write_slot(tmp_path / "slot")
    wanted, file = manifest_of(slot), slot / name
    good = file.read_bytes()
    for bad in (good[:-1], good + b" ", bytes([good[0] ^ 1]) + good[1:], b""):
        file.write_bytes(bad)
        with pytest.raises(WorkerError) as caught:
            load_slot(slot, wanted)
        assert caught.value.code == "worker.slot"
    file.write_bytes(good)
    assert load_slot(slot, wanted).labels


def test_a_whole_slot_of_another_model_is_not_loaded_under_this_ones_name(tmp_path: Path) -> None:
    slot = write_slot(tmp_path / "slot")
    wanted = manifest_of(slot)
    replace_file(slot, Role.MODEL, make_tiny_model(int8=True))
    with pytest.raises(WorkerError, match="is not of the manifest"):
        load_slot(slot, wanted)


def test_a_swap_between_reading_and_use_changes_nothing(tmp_path: Path) -> None:
    slot = write_slot(tmp_path / "slot")
    loaded = load_slot(slot, manifest_of(slot))
    model = (slot / "model.tflite").read_bytes()
    (slot / "model.tflite").write_bytes(b"evil")
    assert loaded.model_file.read_bytes() == model
    engine = load_engine(write_slot(tmp_path / "other"))
    (tmp_path / "other" / "model.tflite").write_bytes(b"evil")
    assert engine.prove().max_difference <= engine.slot.manifest.contract.golden.tolerance


def test_nobody_writes_to_what_was_sealed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    one = SealedFile(tmp_path / "file", ref(b"content"))
    with one.path.open("r+b", buffering=0) as file, pytest.raises(OSError, match="not permitted"):
        file.write(b"x")
    assert one.path.read_bytes() == b"content"


def test_a_file_that_grows_without_an_end_is_left(tmp_path: Path) -> None:
    with pytest.raises(WorkerError):
        SealedFile(Path("/dev/zero"), ref(b"\0" * 1000))


@pytest.mark.parametrize("runtime", ["litert", "openvino"])
def test_every_runtime_reads_what_is_sealed(tmp_path: Path, runtime: str) -> None:
    """An environment of a device alone has one runtime only."""
    pytest.importorskip({"litert": "ai_edge_litert", "openvino": "openvino"}[runtime])
    slot = write_slot(tmp_path / "slot")
    engine = Engine(load_slot(slot, manifest_of(slot)), load_runtime(runtime), 1, Statistics(Random(1)))
    (answer,) = engine.infer([np.zeros((1, 8), np.float32)])
    assert answer.shape[0] == 1


def test_without_memory_files_an_unnamed_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    (tmp_path / "file").write_bytes(b"content")
    assert SealedFile(tmp_path / "file", ref(b"content")).path.read_bytes() == b"content"
