import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    KFold,
    RepeatedStratifiedKFold,
    cross_val_predict,
    cross_validate,
)

from skllm_calib.display import ReliabilityDisplay
from skllm_calib.metrics import reliability_curve

KEEP = {"return_estimator": True, "return_indices": True}
BINS = {"n_bins": 10, "strategy": "quantile"}


@pytest.fixture
def results(data):
    y, proba = data
    return cross_validate(LogisticRegression(), proba, y, cv=3, **KEEP)


def test_the_held_out_predictions_are_pooled(data, results):
    y, proba = data
    display = ReliabilityDisplay.from_cv_results(results, proba, y, name="model", smooth=True)
    held_out = cross_val_predict(LogisticRegression(), proba, y, cv=3, method="predict_proba")
    expected = reliability_curve(y, held_out, **BINS)
    np.testing.assert_allclose(display.curve.accuracy, expected.accuracy)
    np.testing.assert_allclose(display.curve.mean_confidence, expected.mean_confidence)
    test = results["indices"]["test"][1]
    one = reliability_curve(y[test], held_out[test], **BINS)
    np.testing.assert_allclose(display.fold_lines_[1].get_ydata(), one.accuracy)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0].startswith("model\nECE")
    assert texts.count("each of 3 folds") == 1
    display.figure_.canvas.draw()


def test_without_the_folds(data, results):
    y, proba = data
    display = ReliabilityDisplay.from_cv_results(results, proba, y, show_folds=False, band=None)
    assert display.fold_lines_ == []
    assert display.fold_curves is display.band_ is None


def test_weights_belong_to_the_rows(data, results):
    y, proba = data
    weight = (np.arange(300) % 3).astype(float)
    display = ReliabilityDisplay.from_cv_results(results, proba, y, sample_weight=weight, **BINS)
    held_out = cross_val_predict(LogisticRegression(), proba, y, cv=3, method="predict_proba")
    expected = reliability_curve(y, held_out, sample_weight=weight, **BINS)
    np.testing.assert_allclose(display.curve.accuracy, expected.accuracy)
    assert sum(fold.counts.sum() for fold in display.fold_curves) == (weight > 0).sum()


def test_lists_of_texts():
    class Echo(LogisticRegression):
        def fit(self, X, y):
            return super().fit([[float(text)] for text in X], y)

        def predict_proba(self, X):
            return super().predict_proba([[float(text)] for text in X])

        def score(self, X, y):
            return 0.0

    X, y = [str(number) for number in range(40)], ["no", "yes"] * 20
    results = cross_validate(Echo(), X, y, cv=2, **KEEP)
    assert ReliabilityDisplay.from_cv_results(results, X, y).curve.counts.sum() == 40


def test_results_that_do_not_serve(data, results):
    y, proba = data
    with pytest.raises(ValueError, match="return_indices=True"):
        ReliabilityDisplay.from_cv_results({"test_score": [1.0]}, proba, y)
    with pytest.raises(ValueError, match="pass the X and y"):
        ReliabilityDisplay.from_cv_results(results, proba[:200], y[:200])
    repeated = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)
    twice = cross_validate(LogisticRegression(), proba, y, cv=repeated, **KEEP)
    with pytest.raises(ValueError, match="held out 2 times"):
        ReliabilityDisplay.from_cv_results(twice, proba, y)
    order = np.argsort(y)  # each class is a fold of its own
    p, sorted_y = proba[order], y[order]
    unlike = cross_validate(LogisticRegression(), p, sorted_y, cv=KFold(3), **KEEP)
    with pytest.raises(ValueError, match=r"fold 2 knows \['a', 'b'\]"):
        ReliabilityDisplay.from_cv_results(unlike, p, sorted_y)
