"""Keys: the same for the same, another for whatever else goes in."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from fleet_cloud.factory.data import Split, Splits
from fleet_cloud.factory.keys import (
    digest_code,
    digest_file,
    digest_splits,
    find_libraries,
    make_training_key,
)
from fleet_cloud.factory.recipe import Architecture, Augment, Training
from fleet_shared.manifest import Preprocessing


def make_splits() -> Splits:
    x, y = np.arange(24, dtype=np.float32).reshape(6, 4), np.array([0, 1, 0, 1, 0, 1])
    part = Split(x, y)
    return Splits(part, Split(x[:2], y[:2]), Split(x[2:4], y[2:4]), ("a", "b"), Preprocessing(), "digest")


def test_all_that_training_sees_is_in_the_digest_of_the_splits() -> None:
    splits = make_splits()
    x, y = splits.train.x, splits.train.y
    changed = [
        replace(splits, train=Split(x[::-1], y)),
        replace(splits, train=Split(x, y[::-1])),
        replace(splits, train=Split(x, None)),
        replace(splits, train=Split(x.reshape(6, 2, 2), y)),
        replace(splits, train=Split(x.astype(np.float64), y)),
        replace(splits, validation=Split(x[:3], y[:3])),
        replace(splits, labels=("a", "c")),
        replace(splits, preprocessing=Preprocessing(scale=0.5)),
        replace(splits, augment=Augment(flip="horizontal")),
        replace(splits, task="regression"),
    ]
    digests = {digest_splits(one) for one in [splits, *changed]}
    assert len(digests) == len(changed) + 1
    assert digest_splits(make_splits()) == digest_splits(splits)


def test_the_test_split_decides_nothing() -> None:
    splits = make_splits()
    other = replace(splits, test=Split(splits.test.x + 1, splits.test.y))
    assert digest_splits(other) == digest_splits(splits)


def test_settings_of_the_training_are_in_its_key() -> None:
    architecture, training = Architecture(), Training()
    keys = {
        make_training_key("s", architecture, training),
        make_training_key("t", architecture, training),
        make_training_key("s", Architecture(units=17), training),
        make_training_key("s", architecture, msgspec.structs.replace(training, seed=2)),
        make_training_key("s", architecture, msgspec.structs.replace(training, epochs=26)),
    }
    assert len(keys) == 5


def test_a_model_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.keras", tmp_path / "b.keras"
    first.write_bytes(b"model")
    second.write_bytes(b"model")
    one, other = (Architecture(kind="file", path=str(path)) for path in (first, second))
    assert make_training_key("s", one, Training()) == make_training_key("s", other, Training())
    before = make_training_key("s", one, Training())
    first.write_bytes(b"another")
    assert make_training_key("s", one, Training()) != before


def test_a_folder_counts_by_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    before = digest_file(tmp_path)
    (tmp_path / "one").rename(tmp_path / "two")
    renamed = digest_file(tmp_path)
    (tmp_path / "two").write_bytes(b"2")
    assert len({before, renamed, digest_file(tmp_path)}) == 3


def test_what_computes_is_named() -> None:
    assert len(digest_code()) == 64
    assert {"keras", "numpy"} <= set(find_libraries())
