"""What fitting and predicting used, through all that is put around a classifier."""

from __future__ import annotations

import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    ResponseCache,
)
from skllm_calib.evidence.usage import Usage
from skllm_calib.operations.report.scored_rows import score_rows

TEXTS = [f"message number {i}" for i in range(40)]
LABELS = ["ham", "spam"] * 20
PRICES = {"*": (10.0, 20.0)}


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


def zero_shot(backend, **options):
    return LLMClassifier(
        backend, **{"classes": ["ham", "spam"], "cache": None, "prices": PRICES, **options}
    )


def test_of_a_classifier(counted, cache):
    clf = zero_shot(counted(), cache=cache)
    assert clf.usage_ == Usage()
    records = clf.explain(TEXTS)
    used = clf.usage_
    assert (used.n_requests, used.n_cache_hits, used.n_unpriced) == (40, 0, 0)
    assert used.prompt_tokens == sum(record["prompt_tokens"] for record in records)
    assert used.usd == pytest.approx(sum(record["usd"] for record in records))
    clf.predict(TEXTS[:10])
    assert clf.usage_ == used + Usage(n_cache_hits=10)
    assert clf.fit(TEXTS, LABELS).usage_ == Usage()
    assert not {name for name in vars(clf) if "usage" in name}


def test_an_unknown_price_is_said(counted):
    from skllm_calib import OpenAIBackend

    clf = zero_shot(OpenAIBackend("m", base_url="http://127.0.0.1:9/v1"), prices=None)
    assert clf.prepare_rows(["x"], ask=False).model.price is None
    used = Usage(n_requests=2, prompt_tokens=5, n_unpriced=2)
    assert used.to_dict()["usd"] is None
    assert (used - used).to_dict()["usd"] == 0


def test_of_a_calibrated_one(counted):
    llm = zero_shot(counted())
    clf = CalibratedLLMClassifier(llm, method="platt").fit(TEXTS, LABELS)
    assert clf.usage_.n_requests == 40
    card = clf.calibration_card_
    assert card["usage"]["n_requests"] == 40
    assert card["usage"]["usd"] == pytest.approx(clf.usage_.usd)
    assert "usage" in str(card)
    clf.predict(["x"])
    assert clf.usage_.n_requests == 41
    assert llm.usage_ == Usage()  # a copy of it asked


def test_of_one_that_is_cross_fitted(counted):
    backend = counted()
    llm = zero_shot(backend, n_shots=1, prior_correction="contextual", verbose=0)
    clf = CalibratedLLMClassifier(llm, method="platt").fit(TEXTS, LABELS)
    assert clf.usage_.n_requests == backend.asked.total()
    assert clf.calibration_card_["usage"]["n_requests"] == backend.asked.total()


def test_of_a_frozen_one_the_calibration_alone(counted):
    llm = zero_shot(counted()).fit(TEXTS, LABELS)
    llm.predict(["one", "two"])
    clf = CalibratedLLMClassifier(FrozenEstimator(llm), method="platt").fit(TEXTS, LABELS)
    assert clf.calibration_card_["usage"]["n_requests"] == 40
    assert clf.usage_.n_requests == 42  # it is the same object


def test_of_an_ensemble(counted):
    backends = [counted(), counted()]
    members = [("one", zero_shot(backends[0])), ("two", zero_shot(backends[1], n_shots=1))]
    both = LLMEnsembleClassifier(members, weights="fit").fit(TEXTS, LABELS)
    assert both.usage_.n_requests == sum(backend.asked.total() for backend in backends)
    clf = CalibratedLLMClassifier(both, method="platt")
    assert not hasattr(clf, "usage_")
    clf.fit(TEXTS, LABELS)
    assert clf.calibration_card_["usage"]["n_requests"] == clf.usage_.n_requests > 80


def test_other_classifiers_do_not_know(counted):
    X = [[float(i)] for i in range(40)]
    clf = CalibratedLLMClassifier(LogisticRegression(), method="platt").fit(X, LABELS)
    assert clf.usage_ is None
    assert "usage" not in clf.calibration_card_
    assert not hasattr(clf, "estimate_cost")


def test_a_report_knows_the_price(counted):
    clf = zero_shot(counted())
    usage = score_rows(clf, TEXTS).usage
    assert usage.usd == pytest.approx(clf.usage_.usd)
    both = LLMEnsembleClassifier([("one", clf), ("two", zero_shot(counted()))])
    assert score_rows(both, TEXTS).usage.usd == pytest.approx(2 * usage.usd)
