"""Decompositions against scikit-learn's scores, isotonic regression and algebra."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from skllm_calib.calibration import brier_decomposition, log_loss_decomposition
from skllm_calib.metrics import brier_score


def binary(n=300, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1, n).round(2).clip(0.01, 0.99)  # ties
    return (rng.random(n) < p**1.5).astype(int), p, rng.random(n) + 0.1


def several(n=1500, power=2.0, seed=0):
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet([1, 1, 1, 1], n)
    y = (rng.random((n, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    proba = honest**power
    return y, proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("decompose", [brier_decomposition, log_loss_decomposition])
@pytest.mark.parametrize("kind", ["canonical", "top-label", 2])
@pytest.mark.parametrize("recalibration", ["auto", "temperature"])
def test_the_parts_add_up(decompose, kind, recalibration):
    y, proba = several(400)
    parts = decompose(y, proba, kind=kind, recalibration=recalibration)
    assert parts.calibration - parts.resolution + parts.uncertainty == pytest.approx(
        parts.score, abs=1e-14
    )
    assert parts.calibration + parts.refinement == pytest.approx(parts.score, abs=1e-14)


def test_two_classes_by_isotonic_regression():
    y, p, weight = binary()
    fitted = IsotonicRegression().fit(p, y, sample_weight=weight).predict(p)
    share = np.average(y, weights=weight)

    found = brier_decomposition(y, p, kind=1, sample_weight=weight)
    score = brier_score_loss(y, p, sample_weight=weight)
    refined = np.average((y - fitted) ** 2, weights=weight)
    assert found.score == pytest.approx(score, abs=1e-12)
    assert found.calibration == pytest.approx(score - refined, abs=1e-8)
    assert found.resolution == pytest.approx(share * (1 - share) - refined, abs=1e-8)
    assert found.uncertainty == pytest.approx(share * (1 - share), abs=1e-12)

    found = log_loss_decomposition(y, p, sample_weight=weight)
    eps = np.finfo(float).eps
    refined = log_loss(y, fitted.clip(eps, 1 - eps), sample_weight=weight)
    score = log_loss(y, p, sample_weight=weight)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert found.score == pytest.approx(score, abs=1e-12)
    assert found.calibration == pytest.approx(score - refined, abs=1e-8)
    assert found.uncertainty == pytest.approx(entropy, abs=1e-12)


def test_the_total_of_whole_rows_is_the_score_that_everyone_knows():
    y, proba = several()
    weight = np.random.default_rng(1).random(len(y))
    assert brier_decomposition(y, proba, sample_weight=weight).score == pytest.approx(
        brier_score(y, proba, sample_weight=weight), abs=1e-12
    )
    assert log_loss_decomposition(y, proba, sample_weight=weight).score == pytest.approx(
        log_loss(y, proba, sample_weight=weight), abs=1e-12
    )
    y, p, _ = binary()
    both = np.column_stack([1 - p, p])
    twice = brier_decomposition(y, both)
    once = brier_decomposition(y, p, kind=1)
    np.testing.assert_allclose(twice, 2 * np.array(once), atol=1e-14)
    assert twice.score == pytest.approx(brier_score(y, p), abs=1e-12)


def test_impossible_answers_are_clipped_as_in_scikit_learn():
    y, p = [0, 1, 1, 0], [0.0, 0.0, 1.0, 0.4]
    assert log_loss_decomposition(y, p).score == pytest.approx(log_loss(y, p), abs=1e-12)


def test_isotonic_parts_are_never_negative_and_kept_by_order_and_copies():
    y, p, _ = binary()
    whole = np.array(brier_decomposition(y, p, kind=1))
    assert (whole >= 0).all()
    order = np.random.default_rng(1).permutation(len(y))
    np.testing.assert_allclose(brier_decomposition(y[order], p[order], kind=1), whole, atol=1e-12)
    count = np.random.default_rng(2).integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), count)
    np.testing.assert_allclose(
        brier_decomposition(y[rows], p[rows], kind=1),
        brier_decomposition(y, p, kind=1, sample_weight=count),
        atol=1e-12,
    )


@pytest.mark.parametrize("decompose", [brier_decomposition, log_loss_decomposition])
def test_many_classes_find_what_recalibration_would_save(decompose):
    y, proba = several(power=2.0)
    _, honest = several(power=1.0)
    boastful, calibrated = decompose(y, proba), decompose(y, honest)
    # The true map is a temperature, which the default calibrator contains.
    saved = boastful.score - calibrated.score
    assert boastful.calibration == pytest.approx(saved, abs=0.1 * saved)
    assert abs(calibrated.calibration) < 0.1 * saved
    assert boastful.uncertainty == calibrated.uncertainty


def test_cross_fitting_does_not_depend_on_the_order_of_rows():
    y, proba = several(300)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(
        brier_decomposition(y[order], proba[order]), brier_decomposition(y, proba), atol=1e-12
    )
    again = brier_decomposition(y, proba, random_state=1)
    assert again.calibration != brier_decomposition(y, proba).calibration
    assert again.score == pytest.approx(brier_decomposition(y, proba).score)


def test_cross_fitting_is_fairer_to_a_calibrated_model():
    pooled, fitted = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.random(200)
        y = (rng.random(200) < p).astype(int)
        pooled.append(brier_decomposition(y, p, kind=1).calibration)
        found = brier_decomposition(y, p, kind=1, recalibration="temperature")
        fitted.append(found.calibration)
    assert abs(np.mean(fitted)) < np.mean(pooled) / 3


def test_wrong_parameters():
    y, proba = several(100)
    with pytest.raises(ValueError, match="'pav' needs one confidence per row, but there are 4"):
        brier_decomposition(y, proba, recalibration="pav")
    with pytest.raises(ValueError, match="Unknown calibration method"):
        brier_decomposition(y, proba, recalibration="temprature")
    with pytest.raises(ValueError, match="at least 10 rows, got 5"):
        brier_decomposition(y[:5], proba[:5], labels=range(4))
    with pytest.raises(ValueError, match="kind"):
        brier_decomposition(y, proba, kind="z")
