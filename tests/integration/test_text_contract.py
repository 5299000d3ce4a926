"""What every classifier of ours owes its users on texts; scikit-learn's suite cannot see it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    calibration_scoring,
)

TEXTS = [f"{('see you', 'free prize')[i % 2]} number {i}" for i in range(60)]
NAMES = np.array(["ham", "spam"] * 30)
FEW = np.array([41, 3, 17, 58])


def llm(backend, **options):
    return LLMClassifier(backend, cache=None, **options)


def pair(backend, **options):
    return LLMEnsembleClassifier(
        [("plain", llm(backend, **options)), ("own", llm(backend, prompt="Which? {text}"))]
    )


def calibrate(estimator, **options):
    return CalibratedLLMClassifier(estimator, method="temperature", **options)


CLASSIFIERS = {
    "zero-shot": llm,
    "few-shot": lambda backend: llm(backend, n_shots=2),
    "keys": lambda backend: llm(backend, prompt="Which of {options}? {text} {hint}"),
    "ensemble": pair,
    "fitted ensemble": lambda backend: pair(backend).set_params(weights="fit"),
    "calibrated zero-shot": lambda backend: calibrate(llm(backend)),
    "calibrated few-shot": lambda backend: calibrate(llm(backend, n_shots=2)),
    "calibrated ensemble": lambda backend: calibrate(pair(backend)),
    "calibrated pipeline": lambda backend: calibrate(
        make_pipeline(llm(backend), LogisticRegression()), cv=3
    ),
    "pipeline": lambda backend: make_pipeline(calibrate(llm(backend))),
}


@pytest.fixture(params=CLASSIFIERS)
def classifier(request, counted):
    return CLASSIFIERS[request.param](counted())


def test_a_row_depends_neither_on_the_others_nor_on_their_order(classifier):
    whole = classifier.fit(TEXTS, NAMES).predict_proba(TEXTS)
    few = classifier.predict_proba([TEXTS[i] for i in FEW])
    # A linear model inside may round one row unlike many.
    np.testing.assert_allclose(few, whole[FEW], rtol=0, atol=1e-15)
    one = classifier.predict_proba([TEXTS[41]])
    np.testing.assert_allclose(one[0], whole[41], rtol=0, atol=1e-15)


def test_every_method_says_the_same(classifier):
    proba = classifier.fit(TEXTS, NAMES).predict_proba(TEXTS)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    assert np.isfinite(classifier.predict_log_proba(TEXTS)).all()
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(TEXTS)), proba)
    decision = classifier.decision_function(TEXTS)
    np.testing.assert_allclose(decision, np.log(proba[:, 1]) - np.log(proba[:, 0]))
    assert classifier.predict(TEXTS).tolist() == NAMES[:2][proba.argmax(axis=1)].tolist()


def test_fit_forgets_and_repeats(classifier):
    first = classifier.fit(TEXTS, NAMES).predict_proba(TEXTS)
    np.testing.assert_array_equal(classifier.fit(TEXTS, NAMES).predict_proba(TEXTS), first)
    np.testing.assert_array_equal(clone(classifier).fit(TEXTS, NAMES).predict_proba(TEXTS), first)
    other = classifier.fit(TEXTS[::-1], np.where(NAMES == "ham", "x", "y"))
    assert other.classes_.tolist() == ["x", "y"]
    np.testing.assert_array_equal(classifier.fit(TEXTS, NAMES).predict_proba(TEXTS), first)


X_CONTAINERS = {
    "tuple": tuple,
    "<U": np.array,
    "objects": lambda v: np.array(v, dtype=object),
    "StringDType": lambda v: np.array(v, dtype=np.dtypes.StringDType()),
    "column": lambda v: np.array(v, dtype=object).reshape(-1, 1),
    "Series": lambda v: pd.Series(v, index=np.arange(len(v))[::-1] + 5),
}


@pytest.mark.parametrize("container", X_CONTAINERS)
def test_the_container_of_the_texts_does_not_matter(classifier, container):
    make = X_CONTAINERS[container]
    plain = clone(classifier).fit(TEXTS, NAMES).predict_proba(TEXTS)
    found = classifier.fit(make(TEXTS), NAMES).predict_proba(make(TEXTS))
    np.testing.assert_array_equal(found, plain)


LABELS = {
    "str objects": ["ham", "spam"],
    "0 and 1": [0, 1],
    "1 and 2": [1, 2],
    "-1 and 1": [-1, 1],
    "1, 2 and 3": [1, 2, 3],
    "bool": [False, True],
    "far apart": [7, 10**9],
    "words of other lengths": ["a", "much longer than that", "ok"],
}


@pytest.mark.parametrize("labels", LABELS)
def test_types_of_labels(classifier, labels):
    kinds = LABELS[labels]
    y = np.resize(np.array(kinds, dtype=object if labels == "str objects" else None), 60)
    fitted = classifier.fit(TEXTS, y)
    assert fitted.classes_.tolist() == kinds
    proba = fitted.predict_proba(TEXTS)
    assert set(fitted.predict(TEXTS).tolist()) <= set(kinds)
    assert [type(label) for label in fitted.predict(TEXTS).tolist()] == [type(kinds[0])] * 60
    for same in (y.tolist(), pd.Series(y, index=np.arange(60)[::-1] + 3)):
        np.testing.assert_array_equal(
            clone(classifier).fit(TEXTS, same).predict_proba(TEXTS), proba
        )


def test_texts_have_no_feature_names_and_tables_do(classifier):
    fitted = classifier.fit(TEXTS, NAMES)
    assert not hasattr(fitted, "n_features_in_")
    assert not hasattr(fitted, "feature_names_in_")
    frame = pd.DataFrame({"text": TEXTS})
    fitted = clone(classifier).fit(frame, NAMES)
    assert fitted.n_features_in_ == 1
    assert fitted.feature_names_in_.tolist() == ["text"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"text": "body"}))


def test_rows_of_weight_zero_do_not_count(counted):
    for name in ("zero-shot", "few-shot", "ensemble", "calibrated zero-shot"):
        classifier = CLASSIFIERS[name](counted())
        weight = np.ones(60)
        weight[::3] = 0
        weighted = clone(classifier).fit(TEXTS, NAMES, sample_weight=weight)
        kept = [t for t, w in zip(TEXTS, weight, strict=True) if w]
        plain = clone(classifier).fit(kept, NAMES[weight > 0])
        np.testing.assert_allclose(weighted.predict_proba(TEXTS), plain.predict_proba(TEXTS))


def test_metadata_is_routed_to_scorer_estimator_and_splitter(counted):
    weight = np.linspace(0, 2, 60)
    groups = np.arange(60) // 6
    with config_context(enable_metadata_routing=True):
        inner = llm(counted(), n_shots=1).set_fit_request(sample_weight=True)
        clf = calibrate(inner, cv=GroupKFold(5)).set_fit_request(sample_weight=True)
        scorer = calibration_scoring()["ece"].set_score_request(sample_weight=True)
        params = {"sample_weight": weight, "groups": groups}
        result = cross_validate(
            clf, TEXTS, NAMES, cv=GroupKFold(3), scoring=scorer, params=params, error_score="raise"
        )
        assert np.isfinite(result["test_score"]).all()
        assert clf.fit(TEXTS, NAMES, groups=groups).calibration_card_["scores"] == (
            "cross-fitted in 5 folds"
        )
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            calibrate(llm(counted())).fit(TEXTS, NAMES, sample_weight=weight)


def test_parameters_of_fit_reach_the_estimator_without_routing(counted):
    seen = []

    class Curious(LLMClassifier):
        def fit(self, X, y=None, sample_weight=None, note=None):
            seen.append((note, None if sample_weight is None else len(sample_weight)))
            return super().fit(X, y, sample_weight)

    clf = calibrate(Curious(counted(), cache=None), cv=2)
    clf.fit(TEXTS, NAMES, sample_weight=np.ones(60), note="hello")
    assert seen == [("hello", 60), ("hello", 30), ("hello", 30)]


def test_log_probabilities_as_a_table(counted):
    clf = llm(counted(), classes=["ham", "spam"]).set_output(transform="pandas")
    table = pd.DataFrame({"note": TEXTS}, index=range(100, 160))
    frame = clf.fit(table).transform(table)
    assert frame.columns.tolist() == clf.get_feature_names_out().tolist()
    assert frame.columns.tolist() == ["logprob_ham", "logprob_spam"]
    assert frame.index.tolist() == list(range(100, 160))
    polars = clone(clf).set_output(transform="polars").fit(TEXTS).transform(TEXTS)
    np.testing.assert_array_equal(polars.to_numpy(), frame.to_numpy())
