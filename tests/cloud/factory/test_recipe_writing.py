"""Passes written for a recipe: short, and the same when they are read."""

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleet_cloud.factory.recipe import VariantRecipe
from fleet_cloud.factory.recipe.passes import (
    AttentionPair,
    Cluster,
    Distil,
    Float16,
    Int8,
    LogQuantize,
    PassSettings,
    PruneWeights,
    Train,
    Tune,
)
from fleet_cloud.factory.recipe.writing import write_passes, write_variant


def read(text: str) -> VariantRecipe:
    (document,) = yaml.safe_load(text)
    return msgspec.convert(document, VariantRecipe)


def test_what_is_the_default_is_left_out() -> None:
    passes = (PruneWeights(sparsity=0.7, tune=Tune(epochs=3)), Int8())
    text = write_variant("trial-7", "openvino", write_passes(passes))
    assert text == (
        "- name: trial-7\n"
        "  target: openvino\n"
        "  passes:\n"
        "    - {pass: prune-weights, sparsity: 0.7, tune: {epochs: 3}}\n"
        "    - {pass: int8}\n"
    )
    assert read(text) == VariantRecipe(name="trial-7", target="openvino", passes=passes)


def test_what_yaml_would_read_otherwise_is_kept() -> None:
    passes = (
        PruneWeights(pattern="2:4", skip=("no", "1e5")),
        LogQuantize(base="2"),
        Train(
            tune=Tune(learning_rate=1e-05, distil=Distil(pairs=(AttentionPair(student="a", teacher="b"),)))
        ),
        Train(tune=Tune(distil=Distil())),
        Float16(),
    )
    assert read(write_variant("v", "litert", write_passes(passes))).passes == passes


@given(
    st.floats(1e-9, 10, allow_subnormal=False),
    st.integers(2, 256),
    st.booleans(),
    st.sampled_from(["none", "cosine"]),
    st.none() | st.integers(1, 9),
)
def test_any_settings_come_back(
    rate: float, entries: int, aware: bool, decay: str, patience: int | None
) -> None:
    document = {"learning_rate": rate, "decay": decay, "patience": patience}
    tune = msgspec.convert(document, Tune)
    passes: tuple[PassSettings, ...] = (Cluster(entries=entries, tune=tune), Int8(aware=aware))
    assert read(write_variant("v", "litert", write_passes(passes))).passes == passes
