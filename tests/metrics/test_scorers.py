import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from skllm_calib.metrics import (
    aurc,
    aurc_scorer,
    brier_score,
    brier_scorer,
    calibration_scoring,
    classwise_calibration_error,
    classwise_ece_scorer,
    ece_scorer,
    expected_calibration_error,
    log_loss_scorer,
    selective_risk,
    selective_risk_scorer,
    smooth_calibration_error,
    smooth_ece_scorer,
)

KEYS = {
    "ece",
    "classwise_ece",
    "smooth_ece",
    "brier",
    "log_loss",
    "aurc",
    "selective_risk",
    "accuracy",
}


class Counting(LogisticRegression):
    asked: list = []  # noqa: RUF012  # shared by clones on purpose

    def predict_proba(self, X):
        self.asked.append("predict_proba")
        return super().predict_proba(X)

    def predict(self, X):
        self.asked.append("predict")
        return super().predict(X)


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture
def two_classes():
    X, y = make_classification(200, random_state=0)
    return X, np.array(["no", "yes"])[y]


def test_scorers_agree_with_the_metrics(iris, two_classes):
    for X, y in (iris, two_classes):
        model = LogisticRegression(max_iter=500).fit(X, y)
        proba = model.predict_proba(X)
        for scorer, metric in (
            (ece_scorer, expected_calibration_error),
            (classwise_ece_scorer, classwise_calibration_error),
            (brier_scorer, brier_score),
            (log_loss_scorer, log_loss),
            (smooth_ece_scorer, smooth_calibration_error),
            (aurc_scorer, aurc),
            (selective_risk_scorer, selective_risk),
        ):
            assert scorer(model, X, y) == pytest.approx(-metric(y, proba))
        scores = {key: s(model, X, y) for key, s in calibration_scoring(model.classes_).items()}
        assert scores.keys() == KEYS
        assert scores["accuracy"] == pytest.approx(model.score(X, y))
        reference = get_scorer("neg_log_loss")(model, X, y)
        assert scores["log_loss"] == pytest.approx(reference)
    assert scores["brier"] == pytest.approx(-2 * brier_score_loss(y, proba[:, 1], pos_label="yes"))


def test_scorers_with_swept_bins(iris):
    X, y = iris
    model = LogisticRegression(max_iter=500).fit(X, y)
    proba = model.predict_proba(X)
    scoring = calibration_scoring(n_bins="sweep")
    for key, metric in (
        ("ece", expected_calibration_error),
        ("classwise_ece", classwise_calibration_error),
    ):
        assert scoring[key](model, X, y) == -metric(y, proba, n_bins="sweep")


def test_the_estimator_is_asked_once(two_classes):
    X, y = two_classes
    Counting.asked.clear()
    cross_validate(Counting(), X, y, cv=4, scoring=calibration_scoring())
    assert Counting.asked == ["predict_proba"] * 4


def test_grid_search_with_several_scores(iris):
    X, y = iris
    scoring = calibration_scoring(["virginica", "setosa", "versicolor"], strategy="quantile")
    search = GridSearchCV(
        LogisticRegression(max_iter=500), {"C": [0.01, 1]}, cv=3, scoring=scoring, refit="log_loss"
    ).fit(X, y)
    assert search.best_params_ == {"C": 1}
    assert {f"mean_test_{key}" for key in KEYS} <= search.cv_results_.keys()
    single = GridSearchCV(LogisticRegression(max_iter=500), {"C": [1]}, cv=3, scoring=ece_scorer)
    assert single.fit(X, y).best_score_ <= 0


def test_folds_that_lack_a_class(iris):
    X, y = iris
    model = LogisticRegression(max_iter=500).fit(X, y)
    few = y != "setosa"
    for scorer in calibration_scoring().values():
        assert np.isfinite(scorer(model, X[few], y[few]))
    proba = model.predict_proba(X[few])
    error = expected_calibration_error(y[few], proba, labels=model.classes_)
    assert ece_scorer(model, X[few], y[few]) == -error
    # Ordered folds: the class of each test fold is absent from its training rows, so that all are
    # wrong and the error is the confidence itself.
    options = {"cv": KFold(3), "scoring": calibration_scoring(), "return_estimator": True}
    scores = cross_validate(LogisticRegression(max_iter=500), X, y, **options)
    assert scores["test_accuracy"].tolist() == [0, 0, 0]
    assert scores["test_aurc"].tolist() == [-1, -1, -1]
    for k, fold in enumerate(scores["estimator"]):
        confidence = fold.predict_proba(X[50 * k : 50 * (k + 1)]).max(axis=1).mean()
        assert scores["test_ece"][k] == pytest.approx(-confidence)
        assert scores["test_smooth_ece"][k] == pytest.approx(-confidence, abs=1e-3)
    assert np.isfinite(scores["test_log_loss"]).all()


def test_one_class_in_the_training_rows(two_classes):
    X, y = two_classes
    model = DummyClassifier().fit(X, np.full(len(y), "no"))
    assert calibration_scoring()["accuracy"](model, X, y) == (y == "no").mean()
    assert ece_scorer(model, X, y) == pytest.approx(-(y == "yes").mean())


def test_labels_that_do_not_fit(two_classes):
    X, y = two_classes
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match=r"class 'no', which is not in labels=\['maybe', 'yes'\]"):
        calibration_scoring(labels=["maybe", "yes"])["ece"](model, X, y)
    with pytest.raises(ValueError, match="labels must be of one type"):
        ece_scorer(model, X, np.arange(len(y)) % 2)


def test_binary_fold_that_lacks_a_class(two_classes):
    X, y = two_classes
    model = LogisticRegression().fit(X, y)
    only = y == "no"
    for scorer in calibration_scoring(labels=["no", "yes"]).values():
        assert np.isfinite(scorer(model, X[only], y[only]))


def test_sample_weight_reaches_the_metric(two_classes):
    X, y = two_classes
    weight = np.random.default_rng(0).random(len(y))
    model = LogisticRegression().fit(X, y)
    expected = -expected_calibration_error(y, model.predict_proba(X), sample_weight=weight)
    assert ece_scorer(model, X, y, sample_weight=weight) == pytest.approx(expected)

    with config_context(enable_metadata_routing=True):
        scoring = calibration_scoring()
        for scorer in scoring.values():
            scorer.set_score_request(sample_weight=True)
        asked = LogisticRegression().set_fit_request(sample_weight=False)
        options = {"cv": KFold(2), "scoring": scoring}
        weighted = cross_validate(asked, X, y, params={"sample_weight": weight}, **options)
        plain = cross_validate(LogisticRegression(), X, y, params={}, **options)
    for key in KEYS:
        assert not np.allclose(weighted[f"test_{key}"], plain[f"test_{key}"])


def test_scorers_are_new_objects_that_travel():
    first, second = calibration_scoring(), calibration_scoring()
    assert first["ece"] is not second["ece"]
    assert "expected_calibration_error" in repr(pickle.loads(pickle.dumps(first["ece"])))
    clone(first["ece"], safe=False)


@pytest.mark.parametrize(
    "options",
    [{"n_bins": 0}, {"n_bins": "swept"}, {"strategy": "x"}, {"labels": ["a"]}, {"coverage": 0}],
)
def test_wrong_parameters_are_refused_at_once(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        calibration_scoring(**options)
