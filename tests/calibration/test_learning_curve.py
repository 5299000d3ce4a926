"""The learning curve: true figures, disjoint rows, and the order of rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import log_loss

from skllm_calib.calibration import calibration_learning_curve
from skllm_calib.calibrators import TemperatureScaling, VectorScaling
from skllm_calib.metrics import brier_score, debiased_calibration_error

QUICK = {"calibrator": "temperature", "n_draws": 3}


def draw(n, seed=0):
    """Log-probabilities that are twice too sharp and favour one class."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, (n, 3))
    proba = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    y = (rng.random((n, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return 2 * true + np.array([1.5, 0, 0]), y


class Spy(TemperatureScaling):
    """A calibrator that remembers which rows it learned from and which it was asked about."""

    seen: list[tuple[set[float], set[float]]] = []  # noqa: RUF012

    def fit(self, log_proba, y, sample_weight=None, *, classes=None):
        self.learned = set(log_proba[:, 0])
        return super().fit(log_proba, y, sample_weight, classes=classes)

    def predict_proba(self, log_proba):
        Spy.seen.append((self.learned, set(log_proba[:, 0])))
        return super().predict_proba(log_proba)


def test_held_out_rows_are_never_fitted_on():
    Spy.seen = []
    scores, y = draw(300)
    curve = calibration_learning_curve(scores, y, calibrator=Spy(), n_labels=[20, 100], n_draws=4)
    assert curve.n_labels.tolist() == [0, 20, 100, 300]
    assert (curve.n_test, curve.n_draws) == (200, 4)
    assert [len(learned) for learned, _ in Spy.seen[:8]] == [20, 100] * 4
    for learned, asked in Spy.seen:
        assert not learned & asked
    for few, many in zip(Spy.seen[0:8:2], Spy.seen[1:8:2], strict=True):
        assert few[0] < many[0]
        assert few[1] == many[1]
        assert len(few[1]) == 200
    folds = [asked for _, asked in Spy.seen[8:]]
    assert len(folds) == 10
    assert sum(map(len, folds)) == len(set.union(*folds)) == 300


def test_the_first_figure_is_no_calibration():
    scores, y = draw(400)
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    curve = calibration_learning_curve(
        scores, y, n_labels=[50], n_draws=60, calibrator="temperature"
    )
    # Draws of 350 of the 400 rows: their mean is that of all rows, nearly.
    assert curve.log_loss[0] == pytest.approx(log_loss(y, proba), rel=0.02)
    assert curve.brier[0] == pytest.approx(brier_score(y, proba), rel=0.02)
    whole = debiased_calibration_error(y, proba, n_bins=10, strategy="quantile")
    assert curve.ece[0] == pytest.approx(whole, abs=0.01)


def test_more_labels_are_better_up_to_what_the_family_allows():
    scores, y = draw(1500)
    curve = calibration_learning_curve(
        scores, y, calibrator="vector", n_labels=[20, 800], n_draws=6
    )
    assert curve.log_loss[0] > curve.log_loss[1] > curve.log_loss[2]
    assert curve.brier[0] > curve.brier[1] > curve.brier[2]
    assert curve.ece[0] > 0.1 > abs(curve.ece[2])
    assert (curve.log_loss_sd[1:-1] > 0).all()
    fresh, labels = draw(20_000, seed=1)
    fitted = VectorScaling().fit(*draw(800, seed=2))
    assert curve.log_loss[2] == pytest.approx(
        log_loss(labels, fitted.predict_proba(fresh)), abs=0.04
    )


def test_all_rows_are_cross_validated_without_a_spread():
    scores, y = draw(300)
    curve = calibration_learning_curve(scores, y, **QUICK)
    assert np.isnan([curve.log_loss_sd[-1], curve.brier_sd[-1], curve.ece_sd[-1]]).all()
    assert np.isfinite(curve.log_loss).all()
    assert curve.n_labels.tolist() == [0, 25, 50, 100, 200, 300]


def test_order_of_rows_and_names_of_classes_do_not_matter():
    scores, y = draw(200)
    order = np.random.default_rng(1).permutation(200)
    names = np.array(["ham", "junk", "spam"])
    one = calibration_learning_curve(scores, y, **QUICK)
    two = calibration_learning_curve(scores[order], names[y[order]], **QUICK)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    other = calibration_learning_curve(scores, y, **QUICK, random_state=1)
    assert other.log_loss[1] != one.log_loss[1]


def test_a_class_without_labels_and_impossible_classes():
    scores, y = draw(200)
    present = y != 2
    scores[0] = [0, -np.inf, -np.inf]
    curve = calibration_learning_curve(scores[present], y[present], labels=[0, 1, 2], **QUICK)
    assert np.isfinite(curve.log_loss).all()


def test_warnings_of_single_fits_are_not_passed_on():
    scores, y = draw(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration_learning_curve(scores, y, calibrator="isotonic", n_draws=2)


@pytest.mark.parametrize(
    ("n_rows", "options", "message"),
    [
        (60, {}, "60 labelled rows are too few.* at least 75"),
        (200, {"n_labels": [180]}, "n_labels=180 of 200 rows leaves 20 held out.* at most 150"),
        (200, {"n_labels": [1]}, "at least 2"),
        (200, {"n_labels": []}, "at least 2"),
        (200, {"n_draws": 1}, "n_draws"),
        (200, {"calibrator": "isotnic"}, "did you mean 'isotonic'"),
        (200, {"labels": [0, 1]}, "lists 2 classes"),
    ],
)
def test_wrong_parameters(n_rows, options, message):
    with pytest.raises(ValueError, match=message):
        calibration_learning_curve(*draw(n_rows), **{**QUICK, **options})


def test_wrong_scores():
    scores, y = draw(200)
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        calibration_learning_curve(scores, y)
