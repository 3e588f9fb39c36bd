"""Tables: what becomes a feature, what a class, and one message for each thing that can be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_cloud.errors import RecipeError
from fleet_cloud.factory.data import load_splits
from fleet_cloud.factory.recipe import Dataset
from fleet_cloud.factory.tables import load_table, read_table
from fleet_shared.pixels import to_real


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def dataset(path: Path, **given: Any) -> Dataset:
    return Dataset(kind="csv", path=str(path), **{"target": "kind", **given})


def rows(count: int, random: np.random.Generator) -> str:
    lines = ["width,note,height,kind,flat"]
    for number in range(count):
        width, height = 1000 + random.normal(), 0.01 * random.normal()
        lines.append(f"{width},n{number},{height},{'ab'[number % 2]},5")
    return "\n".join(lines)


def test_other_columns_are_features_in_their_order_and_the_target_classes(tmp_path: Path) -> None:
    path = write(tmp_path, "b, a ,kind\n1,2,yes\n3,4e1,no\n\n-5,.5,yes\n")
    samples = read_table(path, dataset(path))
    np.testing.assert_array_equal(samples.x, np.array([[1, 2], [3, 40], [-5, 0.5]], np.float32))
    assert samples.labels == ("no", "yes")
    assert samples.y is not None
    assert samples.y.tolist() == [1, 0, 1]


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path, "a,kind\n1,10\n1,9\n1,x\n")
    assert read_table(path, dataset(path)).labels == ("9", "10", "x")


def test_features_are_standardised_by_the_training_split_alone(tmp_path: Path) -> None:
    path = write(tmp_path, rows(200, np.random.default_rng(1)))
    splits = load_splits(dataset(path, ignore=("note",)), seed=1)
    real = to_real(splits.train.x, splits.preprocessing)
    np.testing.assert_allclose(real[:, :2].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(real[:, :2].std(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(real[:, 2], 0)
    assert splits.preprocessing.rules.mean == tuple(splits.train.x.astype(np.float64).mean(axis=0))
    assert abs(to_real(splits.test.x, splits.preprocessing)[:, 0].mean()) > 1e-4


def test_a_regression_has_values_of_two_dimensions_and_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,kind\n" + "\n".join(f"{n},{n * n},{n / 2}" for n in range(20)))
    splits = load_splits(dataset(path, task="regression"), seed=1)
    assert splits.task == "regression"
    assert splits.labels == ()
    assert splits.train.y.shape == (13, 1)
    np.testing.assert_array_equal(splits.train.y[:, 0], splits.train.x[:, 0] / 2)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20


def test_without_labels_every_column_is_a_feature(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 10)
    samples = read_table(path, Dataset(kind="csv", path=str(path), labels="none"))
    assert (samples.y, samples.x.shape) == (None, (10, 2))


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("a,kind\n1,x\nz,y\n", {}, "line 3, column 'a': 'z' is no number"),
        ("a,kind\n1,x\n ,y\n", {}, "line 3, column 'a': the value is missing"),
        ("a,kind\n1,x\ninf,y\n", {}, "line 3, column 'a': 'inf' is no number"),
        ("a,kind\n1,x\n1,2,y\n", {}, "line 3: 3 values for 2 columns"),
        ("a,kind\n1,x\n1,x\n", {}, "one class only: 'kind' is 'x'"),
        ("a,kind\n1,x\n1,\n", {}, "the label ''"),
        ("a,b\n1,2\n", {}, "no column 'kind'"),
        ("a,kind\n1,x\n", {"ignore": ("z",)}, "no column 'z'"),
        ("a,kind\n1,x\n", {"ignore": ("a",)}, "no column besides"),
        ("a,a,kind\n1,1,x\n", {}, "column 'a' 2 times"),
        ("a,,kind\n1,1,x\n", {}, "an unnamed column"),
        ("1,2\n3,4\n", {}, "begins with numbers"),
        ("a,kind\n", {}, "has no rows"),
        ("", {}, "has no rows"),
        ('a,kind\n"1,x\n', {}, "is no table"),
        ("a,kind\n1,x\n", {"task": "regression"}, "'x' is no number"),
        ("a,kind\n" + "\n".join(f"1,{n}" for n in range(1002)), {}, "1002 different values"),
    ],
)
def test_what_is_no_table_of_samples_is_refused(
    tmp_path: Path, text: str, given: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_table(path, dataset(path, **given))
    assert caught.value.code == "recipe.data.invalid"
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_no_text_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    for name, message in (("a.csv", "is no table"), ("b.csv", "cannot be read")):
        with pytest.raises(RecipeError, match=message):
            load_table(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffa,b\n1,2\n")
    assert load_table(path).header == ("a", "b")
