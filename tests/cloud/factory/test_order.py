"""Which passes may follow which: the whole table, pair by pair."""

from itertools import product

import pytest

from fleet_cloud.factory.recipe.order import find_nonsense
from fleet_cloud.factory.recipe.passes import (
    Cluster,
    DynamicRange,
    Float16,
    Int8,
    Int16x8,
    LogQuantize,
    PruneFilters,
    PruneNeurons,
    PruneWeights,
    Settings,
    Train,
    name_pass,
)
from fleet_cloud.factory.recipe.variants import Target

KINDS: tuple[type[Settings], ...] = (
    Train, PruneFilters, PruneNeurons, PruneWeights, LogQuantize, Cluster,
    Float16, Int8, Int16x8, DynamicRange,
)  # fmt: skip

SENSIBLE = """
                 train  filters  neurons  weights  log  cluster  fp16  int8  int16x8  dynamic
train            yes    yes      yes      yes      yes  yes      yes   yes   yes      yes
prune-filters    yes    yes      yes      yes      yes  yes      yes   yes   yes      yes
prune-neurons    yes    yes      yes      yes      yes  yes      yes   yes   yes      yes
prune-weights    yes    no       no       no       yes  yes      yes   yes   yes      yes
log-quantize     yes    no       no       no       no   no       yes   no    no       no
cluster          yes    no       no       no       no   no       yes   no    no       no
float16          no     no       no       no       no   no       no    no    no       no
int8             no     no       no       no       no   no       no    no    no       no
int16x8          no     no       no       no       no   no       no    no    no       no
dynamic-range    no     no       no       no       no   no       no    no    no       no
"""
"""Rows: the earlier pass; columns: the later one, both with their defaults."""


def read_table() -> dict[str, list[bool]]:
    rows = [line.split() for line in SENSIBLE.strip().splitlines()[1:]]
    return {name: [word == "yes" for word in words] for name, *words in rows}


@pytest.mark.parametrize(("first", "second"), list(product(KINDS, KINDS)))
def test_each_pair_is_allowed_or_refused_as_the_table_says(
    first: type[Settings], second: type[Settings]
) -> None:
    sensible = read_table()[name_pass(first)][KINDS.index(second)]
    found = find_nonsense([first(), second()])
    assert (not found) is sensible
    for one in found:
        assert one.index == 1
        assert one.why.startswith(f"{name_pass(second)} after {name_pass(first)}: ")


def test_what_stands_between_changes_nothing_and_each_pass_is_named_once() -> None:
    found = find_nonsense([Cluster(normalize=True), Train(), PruneFilters(), Int8(), Float16()])
    assert [one.index for one in found] == [2, 4]
    assert "remove first" in found[0].why
    assert found[1].why == "float16 after int8: a file has one number format"


def test_weights_may_be_pruned_further_but_not_less() -> None:
    assert not find_nonsense([PruneWeights(sparsity=0.5), PruneWeights(sparsity=0.6)])
    (one,) = find_nonsense([PruneWeights(sparsity=0.5), PruneWeights(sparsity=0.5)])
    assert one.index == 1
    assert "zero already" in one.why


def test_the_pipelines_of_the_field_are_sensible() -> None:
    for passes in (
        [PruneFilters(), Train(), Int8()],
        [PruneWeights(), Cluster(normalize=True), Int8(aware=True)],
        [PruneNeurons(), PruneWeights(), LogQuantize()],
        [],
    ):
        assert not find_nonsense(passes)


def test_weights_may_be_pruned_to_a_pattern_that_they_do_not_have_yet() -> None:
    fours = PruneWeights(pattern="2:4")
    assert not find_nonsense([PruneWeights(sparsity=0.5), fours])
    assert not find_nonsense([PruneWeights(sparsity=0.8, pattern="block"), fours])
    for earlier, later in ((fours, fours), (fours, PruneWeights(sparsity=0.5))):
        assert [one.index for one in find_nonsense([earlier, later])] == [1]


@pytest.mark.parametrize(
    ("later", "target", "hint"),
    [
        (Int8(per_channel_dense=False), "litert", "leave per_channel_dense out"),
        (Int8(aware=True, per_channel_dense=False), "openvino", "leave per_channel_dense out"),
        (DynamicRange(), "tflite-2.14", "int8 has a scale for each output"),
        (Int8(), "tflite-2.14", None),
        (Int8(per_channel_dense=True), "tflite-2.14", None),
        (DynamicRange(), "litert", None),
        (Int16x8(), "tflite-2.14", None),
    ],
)
def test_codes_for_each_output_are_not_followed_by_one_scale_for_all(
    later: Settings, target: Target, hint: str | None
) -> None:
    """What ``normalize`` promises: at most as many int8 codes in a tensor as there are entries."""
    found = find_nonsense([Cluster(normalize=True), Train(), later], target)
    assert [(one.index, hint is not None and hint in one.hint) for one in found] == (
        [(2, True)] if hint else []
    )
    assert all("more than the entries" in one.why for one in found)


@pytest.mark.parametrize("cluster", [Cluster(), Cluster(group=4)])
def test_entries_that_integers_would_not_keep_are_not_made(cluster: Cluster) -> None:
    for later in (Int8(), Int8(aware=True), Int16x8(), DynamicRange()):
        (one,) = find_nonsense([cluster, later])
        assert "more than the entries" in one.why
        assert "normalize: true" in one.hint
    assert not find_nonsense([cluster, Float16()])
    assert not find_nonsense([Cluster(per="channel"), Int8()]), (
        "each channel has entries and a scale of its own"
    )
