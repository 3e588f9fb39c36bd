"""Data sets and splits: what is read, how it is divided, what is refused."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fleet_cloud.errors import BuildError, RecipeError
from fleet_cloud.factory.data import Split, load_splits, make_lab, plan_splits, write_source
from fleet_cloud.factory.recipe import Dataset
from fleet_cloud.factory.samples import Samples
from fleet_shared.manifest import Preprocessing
from fleet_shared.pixels import to_real


def samples(y: list[int], given: list[int] | None = None) -> Samples:
    return Samples(
        x=np.arange(len(y))[:, np.newaxis],
        y=np.array(y),
        labels=tuple(map(str, range(max(y) + 1))),
        preprocessing=Preprocessing(),
        given=None if given is None else np.array(given),
    )


def test_splits_are_stratified_complete_and_disjoint() -> None:
    y = [0] * 100 + [1] * 20
    parts = plan_splits(samples(y), 0.15, 0.2, seed=1)
    assert [Counter(np.array(y)[part].tolist()) for part in parts] == [
        {0: 65, 1: 13},
        {0: 15, 1: 3},
        {0: 20, 1: 4},
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(120))


def test_the_seed_decides_the_split() -> None:
    everything = samples([0, 1] * 30)
    first, again, other = (plan_splits(everything, 0.2, 0.2, seed)[2].tolist() for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) != sorted(other)


def test_splits_that_the_data_set_names_are_kept() -> None:
    everything = samples([0, 1] * 12, given=[0] * 16 + [1] * 2 + [2] * 6)
    train, validation, test = plan_splits(everything, 0.25, 0.25, seed=1)
    assert sorted(validation.tolist()) == [16, 17]
    assert sorted(test.tolist()) == list(range(18, 24))
    assert sorted(train.tolist()) == list(range(16))


def test_validation_comes_out_of_train_never_out_of_test() -> None:
    everything = samples([0, 1] * 12, given=[0] * 16 + [2] * 8)
    train, validation, test = plan_splits(everything, 0.25, 0.25, seed=1)
    assert sorted(test.tolist()) == list(range(16, 24))
    assert len(validation) == 4
    assert sorted([*train, *validation]) == list(range(16))


@pytest.mark.parametrize("y", [[0] * 100 + [1] * 2, [0] * 100 + [2] * 100])
def test_a_class_without_enough_samples_is_refused(y: list[int]) -> None:
    with pytest.raises(RecipeError, match="class '1'") as caught:
        plan_splits(samples(y), 0.15, 0.2, seed=1)
    assert caught.value.code == "recipe.data.small"


def test_digits_are_raw_pixels_that_preprocessing_brings_to_one() -> None:
    splits = load_splits(Dataset(kind="digits"), seed=1)
    assert splits.test.x.dtype == np.uint8
    assert splits.test.x.shape[1:] == (8, 8, 1)
    assert splits.test.x.max() == 16
    assert to_real(splits.train.x, splits.preprocessing).max() == 1.0
    assert splits.labels == tuple("0123456789")
    assert len(splits.train.y) + len(splits.validation.y) + len(splits.test.y) == 1797


def test_arrays_with_and_without_splits(tmp_path: Path) -> None:
    x, y = np.arange(60, dtype=np.uint8).reshape(20, 3), np.array([0, 1] * 10)
    np.savez(tmp_path / "flat.npz", x=x, y=y, labels=["no", "yes"])
    flat = load_splits(Dataset(kind="npz", path=str(tmp_path / "flat.npz")), seed=1)
    assert flat.labels == ("no", "yes")
    assert flat.preprocessing.scale == 1 / 255
    np.savez(tmp_path / "parts.npz", x_train=x, y_train=y, x_test=x[:4] + 100, y_test=y[:4])
    parts = load_splits(Dataset(kind="npz", path=str(tmp_path / "parts.npz")), seed=1)
    assert sorted(parts.test.x[:, 0].tolist()) == [100, 103, 106, 109]
    assert parts.train.x.max() < 100


X, Y = np.zeros((20, 3)), np.arange(20) % 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "lacks y"),
        ({"inputs": X}, "no array 'x' among .*inputs"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "lacks y_test"),
        ({"x_train": X, "y_train": Y, "y_test": Y}, "lacks x_test"),
        ({"x": X, "y": Y[:19]}, "x has 20 samples, y has 19"),
        ({"x": X, "y": Y[:, np.newaxis]}, r"y has shape \(20, 1\), expected one dimension"),
        ({"x": X, "y": np.array(1)}, r"y has shape \(\), expected one dimension"),
        ({"x": X, "y": Y.astype(float)}, "y is float64, expected whole numbers"),
        ({"x": X, "y": Y - 1}, "the smallest y is -1"),
        ({"x": X, "y": np.append(Y[1:], 2**40)}, "y has the class 1099511627776, with 20 samples"),
        ({"x": X, "y": np.append(Y[1:], np.uint64(2**63 + 1))}, "class|y is float64"),
        ({"x": X, "y": 0 * Y}, "one class only"),
        ({"x": np.array(3.0), "y": Y}, "x has 0 dimensions"),
        ({"x": np.zeros(20), "y": Y}, "x has 1 dimensions"),
        ({"x": np.zeros((20, 0)), "y": Y}, r"x is empty \(20, 0\)"),
        ({"x": np.zeros((0, 3)), "y": Y[:0]}, r"x is empty \(0, 3\)"),
        ({"x": X.astype(str), "y": Y}, "expected numbers"),
        ({"x": np.where(np.arange(60).reshape(20, 3) == 22, np.nan, 0.0), "y": Y}, r"x\[7\] .* not a finite"),
        ({"x": np.where(np.arange(60).reshape(20, 3) == 0, -np.inf, 0.0), "y": Y}, r"x\[0\] .* not a finite"),
        (
            {"x_train": X, "y_train": Y, "x_test": np.zeros((20, 4)), "y_test": Y},
            r"x_test has samples of float64 \(4,\), x_train of float64 \(3,\)",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X.astype(np.uint8), "y_test": Y},
            r"x_test has samples of uint8 \(3,\), x_train of float64",
        ),
        ({"x": X, "y": Y, "labels": np.array(["one"])}, "1 labels for 2 classes"),
        ({"x": X, "y": Y, "labels": np.array("one")}, r"labels has shape \(\)"),
        ({"x": X, "y": Y, "labels": np.array(["a", "a"])}, "label 'a' 2 times"),
        ({"x": X, "y": Y, "labels": np.array(["a", "b\nc"])}, r"the label 'b\\nc'"),
        ({"x": X, "y": Y, "labels": np.array([" ", "b"])}, "the label ' '"),
    ],
)
def test_arrays_that_make_no_data_set_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    with pytest.raises(RecipeError, match=message) as caught:
        load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz")), seed=1)
    assert caught.value.code == "recipe.data.invalid"
    assert str(tmp_path / "a.npz") in caught.value.message
    assert caught.value.hint


def test_a_file_of_arrays_that_is_none_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x10\x00 not a header   ")
    pickled = tmp_path / "objects.npz"
    np.savez(pickled, x=np.array([{}, None]), y=np.arange(2))
    (tmp_path / "text.npz").write_text("x = 1")
    wanted = {path: "cannot be read", pickled: "Python objects", tmp_path / "text.npz": "is not an .npz file"}
    for file, message in wanted.items():
        with pytest.raises(RecipeError, match=message) as caught:
            load_splits(Dataset(kind="npz", path=str(file)), seed=1)
        assert "\n" not in caught.value.message
        assert "pickle" not in caught.value.message


def test_labels_may_be_bytes_or_numbers(tmp_path: Path) -> None:
    for labels, wanted in ((np.array([b"no", b"yes"]), ("no", "yes")), (np.array([7, 9]), ("7", "9"))):
        np.savez(tmp_path / "a.npz", x=X, y=Y, labels=labels)
        assert load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz")), seed=1).labels == wanted


def test_a_split_is_written_as_a_source_for_devices(tmp_path: Path) -> None:
    split = Split(np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([1, 0]))
    write_source(split, tmp_path / "held-out.npz")
    with np.load(tmp_path / "held-out.npz") as archive:
        assert np.array_equal(archive["x"], split.x)
        assert archive["y"].tolist() == [1, 0]


def test_a_source_needs_the_name_of_one_and_a_place(tmp_path: Path) -> None:
    split = Split(np.zeros((1, 1)), np.array([0]))
    for path in (tmp_path / "held-out", tmp_path / "nowhere" / "held-out.npz"):
        with pytest.raises(BuildError) as caught:
            write_source(split, path)
        assert caught.value.code == "build.output"


def test_arrays_without_labels_need_no_y(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(60, dtype=np.uint8).reshape(20, 3))
    splits = load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz"), labels="none"), seed=1)
    assert (splits.test.y, len(splits.test)) == (None, 4)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3)])
def test_values_to_fit_have_two_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    y = np.arange(np.prod(shape)).reshape(shape) / 4
    np.savez(tmp_path / "a.npz", x=np.arange(20.0)[:, np.newaxis], y=y)
    splits = load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz"), task="regression"), seed=1)
    assert splits.task == "regression"
    assert splits.labels == ()
    assert splits.train.y.dtype == np.float32
    np.testing.assert_array_equal(splits.train.y, y.reshape(20, -1)[splits.train.x[:, 0].astype(int)])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(19), "x has 20 samples, y has 19"),
        (np.zeros((20, 2, 2)), r"y has shape \(20, 2, 2\), expected \(n,\)"),
        (np.zeros((20, 0)), r"y has shape \(20, 0\)"),
        (np.where(np.arange(20) == 3, np.nan, 0.0), r"y\[3\] .* not a finite number"),
        (np.array(["a"] * 20), "expected numbers"),
    ],
)
def test_values_that_cannot_be_fitted_are_refused(tmp_path: Path, y: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=y)
    with pytest.raises(RecipeError, match=message) as caught:
        load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz"), task="regression"), seed=1)
    assert caught.value.code == "recipe.data.invalid"


def test_too_few_values_for_three_splits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X[:2], y=np.zeros(2))
    with pytest.raises(RecipeError, match="the data set has 2 samples and none of them in the") as caught:
        load_splits(Dataset(kind="npz", path=str(tmp_path / "a.npz"), task="regression"), seed=1)
    assert caught.value.code == "recipe.data.small"


def test_no_data_is_a_shape_and_a_preprocessing() -> None:
    dataset = Dataset(kind="none", input=(96, 96, 3))
    splits = load_splits(dataset, seed=1)
    assert splits.train.x.shape == (0, 96, 96, 3)
    assert splits.train.x.dtype == np.uint8
    assert splits.preprocessing == Preprocessing(colour="rgb", scale=1 / 255)
    lab = make_lab(splits, 1, lambda _event: None)
    assert (len(lab.train), lab.train.y, len(lab.draw(10))) == (0, None, 0)
    raw = load_splits(Dataset(kind="none", input=(96, 96, 3), scale=1.0), seed=1)
    assert raw.preprocessing.scale == 1.0
    features = load_splits(Dataset(kind="none", input=(7,)), seed=1)
    assert features.train.x.shape == (0, 7)
    assert features.preprocessing == Preprocessing()
