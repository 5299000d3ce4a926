import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss

from skllm_calib.metrics import brier_score, top_label_accuracy


def test_binary_is_twice_the_score_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 50), rng.random(50)
    weight = rng.random(50)
    reference = brier_score_loss(y, p, sample_weight=weight)
    assert brier_score(y, p, sample_weight=weight) == pytest.approx(2 * reference)
    both = np.column_stack([1 - p, p])
    half = brier_score(y, both, sample_weight=weight, scale_by_half=True)
    assert half == pytest.approx(reference)


def test_many_classes_by_hand():
    score = brier_score(["b", "c"], [[0.2, 0.7, 0.1], [0.0, 1.0, 0.0]], labels=["a", "b", "c"])
    assert score == pytest.approx((0.04 + 0.09 + 0.01 + 2) / 2)


def test_accuracy_is_that_of_the_most_probable_class():
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet([1, 1, 1], 60), rng.integers(0, 3, 60)
    weight = rng.random(60)
    expected = accuracy_score(y, proba.argmax(axis=1), sample_weight=weight)
    assert top_label_accuracy(y, proba, sample_weight=weight) == pytest.approx(expected)
