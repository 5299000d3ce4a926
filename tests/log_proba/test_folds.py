"""Folds: stratified, seeded, with copies of a row apart."""

from __future__ import annotations

import numpy as np

from skllm_calib.log_proba.folds import deal_folds, n_parts


def test_folds_are_stratified_and_seeded():
    codes = np.repeat([0, 1, 2, 3], [50, 20, 5, 2])
    part, fold = deal_folds(codes, 5, 0)
    codes = codes[part]
    counts = np.array([np.bincount(fold[codes == k], minlength=5) for k in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
    again, _ = deal_folds(np.sort(codes), 5, 0)
    np.testing.assert_array_equal(part, again)
    other, _ = deal_folds(np.sort(codes), 5, 1)
    assert (part != other).any()


def test_copies_of_a_row_are_in_different_folds():
    codes = np.array([0, 0, 1, 1])
    part, fold = deal_folds(codes, 5, 0, n_parts(np.array([1.0, 3.0, 2.0, 9.0]), 5))
    assert np.bincount(part).tolist() == [1, 3, 2, 5]
    for row in range(4):
        assert len(set(fold[part == row])) == (part == row).sum()
    alone, _ = deal_folds(codes, 2, 0, n_parts(np.ones(4), 2))
    assert sorted(alone.tolist()) == [0, 1, 2, 3]
