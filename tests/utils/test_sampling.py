"""Drawing rows."""

from collections import Counter

import pytest

from skllm_calib.utils.sampling import draw


def test_shares_are_kept_and_every_class_has_a_row():
    labels = ["a"] * 700 + ["b"] * 290 + ["c"] * 9 + ["d"]
    chosen = draw(labels, 100, seed=0)
    counts = Counter(labels[i] for i in chosen)
    assert len(set(chosen)) == 100
    assert counts["d"] == 1
    assert abs(counts["a"] - 70) <= 2
    assert abs(counts["b"] - 29) <= 2


def test_the_seed_decides():
    labels = ["a", "b"] * 50
    assert draw(labels, 20, seed=3) == draw(labels, 20, seed=3)
    assert draw(labels, 20, seed=3) != draw(labels, 20, seed=4)


@pytest.mark.parametrize("n", [None, 4, 100])
def test_all_rows(n):
    assert draw(["a", "b", "a", "b"], n, seed=0) == [0, 1, 2, 3]


def test_fewer_rows_than_classes():
    assert len(draw(["a", "b", "c", "d"], 2, seed=0)) == 2
