"""The class that outputs speak of, and how an answer tells it."""

import numpy as np

from fleet_agent.runtimes.port import TensorInfo
from fleet_agent.worker.classes import find_best, find_class, name_class
from fleet_shared.manifest import Quantization

SCORES = TensorInfo("y", np.dtype(np.int8), (1, 4), Quantization(scale=1 / 256, zero_point=-128))
TWO = ("no", "yes")


def test_the_best_class_in_real_units() -> None:
    row = np.array([[-128, 64, 0, -1]], np.int8)
    assert find_class([row], [SCORES], ("a", "b", "c", "d")) == {"label": "b", "score": 0.75}
    assert find_class([row], [SCORES], ()) == {"label": "1", "score": 0.75}


def test_a_single_score_is_the_probability_of_the_second_of_two_labels() -> None:
    likely, unlikely = np.array([[64]], np.int8), np.array([[-64]], np.int8)
    assert find_class([likely], [SCORES], TWO) == {"label": "yes", "score": 0.75}
    assert find_class([unlikely], [SCORES], TWO) == {"label": "no", "score": 0.75}
    assert [find_best([one], [SCORES], TWO) for one in (likely, unlikely)] == [1, 0]


def test_what_is_no_row_of_scores_has_no_class() -> None:
    row = np.array([[-128, 64, 0, -1]], np.int8)
    assert find_best([row, row], [SCORES, SCORES], ()) is None
    assert find_best([np.concatenate([row, row])], [SCORES], ()) is None
    assert find_best([row[0]], [SCORES], ()) is None
    for labels in ((), ("one",), ("a", "b", "c")):
        assert find_class([row[:, :1]], [SCORES], labels) == {}


def test_a_class_without_a_label_is_called_by_its_number() -> None:
    assert name_class(1, TWO) == "yes"
    assert name_class(2, TWO) == "2"
