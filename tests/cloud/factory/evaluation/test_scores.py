"""Scores against brute force over samples and pairs."""

import base64
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_cloud.factory.evaluation.auc import compute_auc, rank
from fleet_cloud.factory.evaluation.scores import (
    compare_outputs,
    score_classes,
    score_errors,
    take_classes,
    write_right,
)

LABELS = ("ant", "bee", "cow")


def outputs_for(classes: list[int], count: int = 3) -> NDArray[np.float32]:
    """Return outputs whose largest is the given class."""
    return np.eye(count, dtype=np.float32)[classes] * 0.5 + 0.1


def brute_auc(scores: NDArray[Any], of_class: NDArray[np.bool_]) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(scores[of_class], scores[~of_class])]
    return float(np.mean(pairs))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order_ties_half(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=np.float32)
    of_class = np.array([member for _, member in pairs])
    found = compute_auc(scores, of_class)
    if of_class.all() or not of_class.any():
        assert found is None
    else:
        assert found == pytest.approx(brute_auc(scores, of_class), abs=1e-12)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert rank(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_classes_are_counted_as_they_are() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    found = score_classes(outputs_for([0, 0, 1, 1, 1, 0]), truth, LABELS)
    assert found.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    assert found.top1.value == pytest.approx(4 / 6)
    ant, bee, cow = found.classes
    assert (ant.label, ant.samples, ant.precision, ant.recall) == ("ant", 3, 2 / 3, 2 / 3)
    assert (bee.samples, bee.precision, bee.recall) == (2, 2 / 3, 1.0)
    assert (cow.samples, cow.precision, cow.recall) == (1, None, 0.0), "never taken: no precision"


def test_auc_of_several_classes_is_each_against_the_others() -> None:
    random = np.random.default_rng(3)
    outputs = np.round(random.random((50, 3)), 1).astype(np.float32)
    truth = random.integers(0, 3, 50)
    found = score_classes(outputs, truth, LABELS)
    wanted = [brute_auc(outputs[:, number], truth == number) for number in range(3)]
    assert [one.auc for one in found.classes] == pytest.approx(wanted)
    assert found.auc == pytest.approx(np.mean(wanted))


def test_a_class_without_samples_leaves_auc_unknown() -> None:
    found = score_classes(outputs_for([0, 1, 2]), np.array([0, 1, 1]), LABELS)
    assert found.classes[2].auc is None
    assert found.classes[2].recall is None
    assert found.auc is None


def test_a_thousand_classes_have_no_matrix() -> None:
    """But each class is counted as it is."""
    truth = np.arange(400) % 201
    found = score_classes(outputs_for(truth.tolist(), 201), truth, ())
    assert found.confusion == ()
    assert found.top1.value == 1
    assert len(found.classes) == 201
    assert score_classes(outputs_for([0], 200), np.array([0]), ()).confusion[0][0] == 1


def test_the_most_common_mistakes_are_told_for_any_number_of_classes() -> None:
    truth = np.array([7] * 5 + [900] * 4 + [3] * 2)
    taken = [8] * 3 + [7, 9] + [1] * 3 + [900] + [4, 5]
    found = score_classes(outputs_for(taken, 1000), truth, ())
    assert [(one.label, one.taken_for, one.samples) for one in found.mistakes] == [
        ("7", "8", 3), ("900", "1", 3), ("3", "4", 1), ("3", "5", 1), ("7", "9", 1),
    ]  # fmt: skip
    assert [one.share for one in found.mistakes[:2]] == [3 / 5, 3 / 4]
    many = score_classes(outputs_for([0] * 100, 1000), np.arange(100), ())
    assert len(many.mistakes) == 50


def test_one_output_is_the_share_of_class_one() -> None:
    outputs = np.array([[0.2], [0.5], [0.51], [0.9]], dtype=np.float32)
    assert take_classes(outputs).tolist() == [0, 0, 1, 1]
    found = score_classes(outputs, np.array([0, 1, 0, 1]), ("no", "yes"))
    assert found.confusion == ((1, 1), (1, 1))
    assert found.auc == pytest.approx(3 / 4)


def test_two_outputs_have_the_auc_of_the_second() -> None:
    outputs = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], dtype=np.float32)
    assert score_classes(outputs, np.array([0, 1, 1]), ("no", "yes")).auc == pytest.approx(1.0)


def test_errors_are_those_of_the_textbook() -> None:
    truth = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 30.0]])
    outputs = np.array([[1.5, 10.0], [2.0, 18.0], [3.0, 33.0]], dtype=np.float32)
    found = score_errors(outputs, truth)
    error = outputs - truth
    assert found.mae.value == pytest.approx(np.abs(error).mean())
    assert found.rmse.value == pytest.approx(np.sqrt((error**2).mean()))
    each = [1 - (error[:, i] ** 2).sum() / ((truth[:, i] - truth[:, i].mean()) ** 2).sum() for i in (0, 1)]
    assert found.r2 == pytest.approx(np.mean(each))
    assert found.mae.interval is not None
    assert found.mae.interval.low <= found.mae.value <= found.mae.interval.high


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    random = np.random.default_rng(1)
    error = np.abs(random.normal(size=400))
    found = score_errors(error[:, np.newaxis], np.zeros(400))
    assert found.mae.interval is not None
    width = found.mae.interval.high - found.mae.interval.low
    assert width == pytest.approx(2 * 1.96 * error.std() / 20, rel=0.12)
    assert found.r2 is None, "the target never changes"


def test_targets_in_one_column_or_none_are_the_same() -> None:
    outputs = np.array([[1.0], [2.0]], dtype=np.float32)
    assert score_errors(outputs, np.array([1.0, 3.0])) == score_errors(outputs, np.array([[1.0], [3.0]]))


def test_a_variant_is_compared_with_the_float_model_sample_by_sample() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2])
    floats, variant = outputs_for([0, 1, 2, 0, 0, 1]), outputs_for([0, 1, 1, 1, 1, 1])
    found = compare_outputs(variant, floats, truth, classes=True)
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(3 / 6)
    assert found.drop is not None
    assert found.drop.value == pytest.approx((4 - 3) / 6)
    assert found.difference_max == pytest.approx(0.5)
    assert found.difference_mean == pytest.approx(0.5 * 6 / 18)


def test_without_labels_only_agreement_is_known() -> None:
    outputs = outputs_for([0, 1])
    found = compare_outputs(outputs, outputs, None, classes=True)
    assert found.drop is None
    assert found.agreement is not None
    assert found.agreement.value == 1


def test_the_drop_of_a_regression_is_what_is_added_to_rmse() -> None:
    random = np.random.default_rng(5)
    truth = random.normal(size=(200, 1))
    floats = truth + random.normal(scale=0.1, size=(200, 1))
    worse = truth + random.normal(scale=0.3, size=(200, 1))
    found = compare_outputs(worse, floats, truth, classes=False)
    assert found.agreement is None
    assert found.drop is not None
    assert found.drop.interval is not None
    wanted = np.sqrt(((worse - truth) ** 2).mean()) - np.sqrt(((floats - truth) ** 2).mean())
    assert found.drop.value == pytest.approx(wanted)
    assert 0 < found.drop.interval.low < wanted < found.drop.interval.high


def test_which_samples_are_right_is_a_bit_each() -> None:
    written = write_right(outputs_for([0, 1, 2, 0, 0, 0, 0, 0, 1]), np.array([0, 0, 2, 0, 1, 1, 1, 1, 1]))
    assert base64.b64decode(written) == bytes([0b10110000, 0b10000000])
