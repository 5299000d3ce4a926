"""The Kolmogorov-Smirnov error against its definition, prefix by prefix."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import ks_calibration_error

rng = np.random.default_rng(0)
P = rng.dirichlet([1, 1, 1], 200)
Y = (rng.random((200, 1)) > P.cumsum(axis=1)).sum(axis=1)


def by_definition(hit, confidence):
    thresholds = np.unique(confidence)
    return max(abs((hit - confidence)[confidence <= t].sum()) for t in thresholds) / len(hit)


def test_top_label_and_each_class():
    top = P.argmax(axis=1)
    assert ks_calibration_error(Y, P) == pytest.approx(
        by_definition((top == Y).astype(float), P.max(axis=1)), abs=1e-12
    )
    for k in range(3):
        assert ks_calibration_error(Y, P, kind=k) == pytest.approx(
            by_definition((k == Y).astype(float), P[:, k]), abs=1e-12
        )


def test_by_hand():
    # Gaps in order of confidence: 1 - 0.2, 0 - 0.6, 0 - 0.9.
    assert ks_calibration_error([1, 0, 0], [0.2, 0.6, 0.9], kind=1) == pytest.approx(0.8 / 3)


def test_ties_do_not_depend_on_the_order_of_rows():
    p = np.repeat([0.6, 0.8], 50)
    y = np.tile([0, 1], 50)
    order = np.random.default_rng(1).permutation(100)
    whole = ks_calibration_error(y, p, kind=1)
    assert whole == pytest.approx((50 * 0.1 + 50 * 0.3) / 100)
    assert ks_calibration_error(y[order], p[order], kind=1) == pytest.approx(whole, abs=1e-12)


def test_a_weight_of_two_is_the_row_twice():
    weight = np.random.default_rng(2).integers(0, 3, 200)
    rows = np.repeat(np.arange(200), weight)
    assert ks_calibration_error(Y, P, sample_weight=weight) == pytest.approx(
        ks_calibration_error(Y[rows], P[rows]), abs=1e-12
    )
