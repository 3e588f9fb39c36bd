"""Other runtimes at hand where a model is built: what they hold is the tolerance, or they are left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.golden import MARGIN, make_golden
from fleet_cloud.factory.imported import ImportRequest, import_model
from fleet_cloud.factory.lite import LiteModel
from fleet_cloud.factory.package import Package
from fleet_cloud.factory.package import package as make_variant
from fleet_cloud.factory.peers import InstalledPeer, find_peers
from fleet_shared.compatibility import find_incompatibilities
from fleet_shared.manifest import Metrics, Preprocessing
from tests.kit.tiny_model import make_tiny_model

INT8 = make_tiny_model(int8=True)
STEP = 1 / 256


def candidates(count: int = 40) -> list[list[NDArray[Any]]]:
    random = np.random.default_rng(0)
    return [[random.integers(-128, 128, (1, 8), dtype=np.int8)] for _ in range(count)]


@dataclass
class OffBy:
    """A runtime whose answers are so many steps away from LiteRT's on every ``every``-th sample."""

    name: str
    steps: int
    every: int = 1

    def answer(self, content: bytes, samples: Sequence[Sequence[Any]]) -> list[list[Any]]:
        model = LiteModel(content)
        rows = [model.run(sample) for sample in samples]
        for row in rows[:: self.every]:
            row[0] = (row[0].astype(int) + np.where(row[0] > 0, -self.steps, self.steps)).astype(np.int8)
        return rows


class Broken(OffBy):
    def answer(self, content: bytes, samples: Sequence[Sequence[Any]]) -> list[list[Any]]:  # noqa: ARG002
        raise Invalid("killed by SIGILL", code="model.peer")


def build(*peers: Any, content: bytes = INT8) -> Package:
    return make_variant(
        "int8", content, labels=(), preprocessing=Preprocessing(), metrics=Metrics(),
        candidates=candidates(), peers=peers,
    )  # fmt: skip


def test_the_tolerance_is_the_largest_that_was_seen_with_a_margin() -> None:
    alone = make_golden(INT8, candidates()).rule.tolerance
    assert alone == pytest.approx(4 * STEP), "int8: at least 4 steps"
    near = make_golden(INT8, candidates(), [OffBy("openvino", 1)])
    assert near.rule.tolerance == alone
    apart = make_golden(INT8, candidates(), [OffBy("openvino", 5)])
    assert apart.rule.tolerance == pytest.approx(MARGIN * 5 * STEP)
    assert (near.left_out, apart.left_out) == ({}, {})


def test_samples_on_which_a_runtime_is_far_off_are_not_chosen() -> None:
    vectors = make_golden(INT8, candidates(), [OffBy("openvino", 60, every=4)])
    assert vectors.left_out == {}
    assert vectors.rule.tolerance == pytest.approx(4 * STEP)
    assert vectors.rule.samples == 16


def test_one_that_is_too_far_off_everywhere_is_left_out_of_the_contract() -> None:
    made = build(OffBy("openvino", 60), OffBy("tvm", 1))
    assert "openvino" not in made.contract.runtimes
    assert "tvm" in made.contract.runtimes
    assert made.contract.golden == build().contract.golden, "the others do not pay for it"
    assert any("int8 is not for openvino: its answers are too far" in text for text in made.warnings)
    (why,) = find_incompatibilities(made.contract, "openvino", "2026.4.1")
    assert "openvino is not among the runtimes of the contract" in why


def test_one_that_has_no_answer_is_left_out() -> None:
    made = build(Broken("tvm", 0))
    assert "tvm" not in made.contract.runtimes
    assert made.warnings == ("int8 is not for tvm: killed by SIGILL",)


def test_given_vectors_are_asked_about_as_well(tmp_path: Path) -> None:
    file, golden = tmp_path / "model.tflite", tmp_path / "golden.npz"
    file.write_bytes(INT8)
    samples, model = candidates(4), LiteModel(INT8)
    outputs = np.concatenate([model.run(sample)[0] for sample in samples])
    with golden.open("wb") as opened:
        np.savez(opened, input_0=np.concatenate([one[0] for one in samples]), output_0=outputs)
    request = ImportRequest(file, None, None, golden, Preprocessing())
    near = import_model(replace(request, peers=(OffBy("openvino", 3),)))
    assert near.contract.golden.tolerance == pytest.approx(MARGIN * 3 * STEP)
    far = import_model(replace(request, peers=(OffBy("openvino", 90),)))
    assert "openvino" not in far.contract.runtimes
    assert far.contract.golden == import_model(request).contract.golden


def test_the_installed_ones_are_found_and_asked_in_processes_of_their_own() -> None:
    assert [peer.name for peer in find_peers()] == ["openvino", "tvm"]
    samples = candidates(3)
    (first, *_), model = InstalledPeer("openvino").answer(INT8, samples), LiteModel(INT8)
    assert np.abs(first[0].astype(int) - model.run(samples[0])[0]).max() <= 1
    seconds = InstalledPeer("openvino").time(INT8, samples)
    assert seconds.shape == (3,)
    assert np.all(seconds > 0)
    with pytest.raises(Invalid) as caught:
        InstalledPeer("openvino").answer(b"no model", samples)
    assert caught.value.code == "model.peer"
    assert "no TFLite file" in caught.value.message
