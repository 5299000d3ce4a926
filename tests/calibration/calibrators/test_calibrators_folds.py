"""Folds of calibrators: stratified, seeded, with copies of a row apart."""

from __future__ import annotations

import numpy as np

from skllm_calib.calibration.calibrators._folds import merge_copies, spread_over_folds


def test_folds_are_stratified_and_seeded():
    codes = np.repeat([0, 1, 2, 3], [50, 20, 5, 2])
    part, fold = spread_over_folds(codes, np.ones(77), 5, 0)
    codes = codes[part]
    counts = np.array([np.bincount(fold[codes == k], minlength=5) for k in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
    again, _ = spread_over_folds(np.sort(codes), np.ones(77), 5, 0)
    np.testing.assert_array_equal(part, again)
    other, _ = spread_over_folds(np.sort(codes), np.ones(77), 5, 1)
    assert (part != other).any()


def test_copies_of_a_row_are_in_different_folds():
    codes = np.array([0, 0, 1, 1])
    part, fold = spread_over_folds(codes, np.array([1.0, 3.0, 2.0, 9.0]), 5, seed=0)
    assert np.bincount(part).tolist() == [1, 3, 2, 5]
    for row in range(4):
        assert len(set(fold[part == row])) == (part == row).sum()
    alone, _ = spread_over_folds(codes, np.ones(4), 2, seed=0)
    assert sorted(alone.tolist()) == [0, 1, 2, 3]


def test_copies_are_merged_and_their_weights_added():
    log_proba = np.log([[0.3, 0.7], [0.5, 0.5], [0.3, 0.7], [0.3, 0.7]])
    rows, codes, weight = merge_copies(log_proba, np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4.0]))
    np.testing.assert_allclose(np.exp(rows), [[0.3, 0.7], [0.3, 0.7], [0.5, 0.5]])
    assert codes.tolist() == [0, 1, 1]
    assert weight.tolist() == [4.0, 4.0, 2.0]
