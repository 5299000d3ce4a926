"""A row of weight zero may lack its label, wherever labels and weights are taken."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from skllm_calib import (
    CalibratedLLMClassifier,
    CalibrationMonitor,
    CalibrationReport,
    LLMClassifier,
    LLMEnsembleClassifier,
    ReviewClassifier,
    ReviewPolicy,
    log_loss_scorer,
)
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import InvalidInput

N_ROWS = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N_ROWS, 2))
KINDS = {
    "None": (np.where(X[:, 0] + RNG.normal(size=N_ROWS) > 0, "spam", "ham").astype(object), None),
    "NaN": ((X[:, 0] + RNG.normal(size=N_ROWS) > 0).astype(float), np.nan),
}
COUNTS = np.ones(N_ROWS)
COUNTS[[3, 20, 41]] = 0.0

neighbours = KNeighborsClassifier(3)  # takes no weights
llm = LLMClassifier(TestingBackend(), cache=None, n_shots=1)


def ensemble(weights):
    members = [("a", GaussianNB()), ("b", KNeighborsClassifier(3))]
    return LLMEnsembleClassifier(members, weights=weights)


def review(cv):
    policy = ReviewPolicy(0.6, on_not_certifiable="review")
    return ReviewClassifier(GaussianNB(), policy, cv=cv)


def proba_of(estimator, texts=False):
    rows = np.array([f"text {x}" for x in X[:, 0]]) if texts else X

    def outcome(rows_used, y, weight):
        fitted = estimator.fit(rows[rows_used], y, sample_weight=weight)
        return fitted.predict_proba(rows[:10])

    return outcome


def figures(rows_used, y, weight):
    p = 1 / (1 + np.exp(-X[rows_used, 0]))
    proba = np.stack([1 - p, p], axis=1)
    report = CalibrationReport.from_predictions(y, proba, sample_weight=weight)
    return [report.figures["after"]["accuracy"], report.figures["after"]["log_loss"]]


def scores(rows_used, y, weight):
    known = [KINDS["None"][0], KINDS["NaN"][0]][y.dtype.kind == "f"]
    fitted = GaussianNB().fit(X[rows_used], known[rows_used])
    return [log_loss_scorer(fitted, X[rows_used], y, sample_weight=weight)]


ENTRIES = {
    "a scorer": scores,
    "calibrated": proba_of(CalibratedLLMClassifier(GaussianNB(), method="temperature", cv=2)),
    "calibrated, without weights": proba_of(
        CalibratedLLMClassifier(neighbours, method="temperature", cv="auto")
    ),
    "a language model with examples": proba_of(llm, texts=True),
    "ensemble": proba_of(ensemble([1, 2])),
    "report": figures,
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_label_of_a_row_of_weight_zero_tells_nothing(entry, kind):
    y, missing = KINDS[kind]
    lacking = y.copy()
    lacking[COUNTS == 0] = missing
    rows = np.arange(N_ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = ENTRIES[entry](rows, lacking, COUNTS)
    assert np.isfinite(outcome).all()
    with pytest.raises(InvalidInput, match="no label in row 3"):
        ENTRIES[entry](rows, lacking, np.ones(N_ROWS))


@pytest.mark.parametrize("estimator", [neighbours, ensemble([1, 2]), ensemble("fit")])
def test_without_weights_such_a_row_is_not_seen_at_all(estimator):
    y, missing = KINDS["None"]
    lacking = y.copy()
    lacking[COUNTS == 0] = missing
    kept = COUNTS > 0
    clf = CalibratedLLMClassifier(estimator, method="temperature", cv=2)
    fitted = clf.fit(X, lacking, sample_weight=COUNTS).estimator_
    alone = CalibratedLLMClassifier(estimator, method="temperature", cv=2).fit(X[kept], y[kept])
    np.testing.assert_allclose(fitted.predict_proba(X), alone.estimator_.predict_proba(X))


@pytest.mark.parametrize("cv", [None, 2])
def test_a_policy_is_fitted_beside_such_a_row(cv):
    y, missing = KINDS["None"]
    lacking = y.copy()
    lacking[COUNTS == 0] = missing
    fitted = review(cv).fit(X, lacking, sample_weight=COUNTS)
    assert set(fitted.classes_) == {"ham", "spam"}


def test_a_monitor_takes_such_rows():
    y, _ = KINDS["None"]
    p = 1 / (1 + np.exp(-X[:, 0]))
    proba = np.stack([1 - p, p], axis=1)
    monitor = CalibrationMonitor(detectors=("e_detector",)).fit(y, proba)
    monitor.update(["ham", None, "ham"], proba[:3], sample_weight=[1, 0, 1], ids=list("abc"))
    monitor.update(None, proba[:2], ids=list("de"))
    monitor.add_labels(list("de"), ["ham", None], sample_weight=[1, 0])
    with pytest.raises(InvalidInput, match="no label in row 1"):
        monitor.add_labels(list("bc"), ["ham", None])
