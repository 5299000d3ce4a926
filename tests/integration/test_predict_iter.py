"""predict_iter and predict_proba_iter: results of a stream, in order, in bounded memory."""

from __future__ import annotations

import tracemalloc
from functools import cache
from itertools import count, islice

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    ResponseCache,
)
from skllm_calib.backends import BaseBackend, Reply, TestingBackend
from skllm_calib.evidence import asking
from skllm_calib.evidence.label_tokens import Token, label_tree
from skllm_calib.exceptions import (
    BackendError,
    CalibrationMismatch,
    FailedRowsWarning,
    InvalidInput,
)

TEXTS = [f"text {i} about {'money' if i % 3 else 'friends'}" for i in range(40)]
LABELS = ["ham", "spam"] * 20


def classifier(**settings):
    backend = settings.pop("backend", None) or TestingBackend(fail_on=("down",))
    return LLMClassifier(backend, classes=["ham", "spam"], **{"cache": None, **settings})


def ensemble():
    other = classifier(backend=TestingBackend(seed=1))
    unused = classifier(backend=TestingBackend(fail_on=("text",)))
    members = [("one", classifier()), ("two", other), ("unused", unused)]
    return LLMEnsembleClassifier(members, weights=[1, 2, 0])


KINDS = {
    "llm": classifier,
    "ensemble": ensemble,
    "calibrated": lambda: CalibratedLLMClassifier(classifier()).fit(TEXTS, LABELS),
    "calibrated ensemble": lambda: CalibratedLLMClassifier(ensemble()).fit(TEXTS, LABELS),
}


made = cache(lambda kind: KINDS[kind]())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ahead", [1, 7, 1000])
def test_the_same_results_in_the_same_order(kind, n_ahead):
    clf = made(kind)
    np.testing.assert_allclose(
        list(clf.predict_proba_iter(iter(TEXTS), n_ahead=n_ahead)), clf.predict_proba(TEXTS)
    )
    assert list(clf.predict_iter(TEXTS, n_ahead=n_ahead)) == clf.predict(TEXTS).tolist()
    assert list(clf.predict_iter([])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_rows_are_read_than_allowed(kind):
    clf, n_read = made(kind), count()
    endless = (TEXTS[next(n_read) % 40] for _ in count())
    assert len(list(islice(clf.predict_iter(endless, n_ahead=5), 30))) == 30
    assert next(n_read) <= 35


def test_pieces_and_tables():
    clf = LLMClassifier(TestingBackend(), prompt="{title} {price} {hint}", cache=None)
    frame = pd.DataFrame({"title": TEXTS, "price": range(40)})
    clf.fit(frame, LABELS)
    expected = clf.predict_proba(frame)
    pieces = [frame[:10], frame[10:11], *frame[11:].to_dict("records")]
    np.testing.assert_array_equal(list(clf.predict_proba_iter(pieces)), expected)
    texts = classifier()
    np.testing.assert_array_equal(
        list(texts.predict_proba_iter([TEXTS[0], TEXTS[1:9], np.array(TEXTS[9:])])),
        texts.predict_proba(TEXTS),
    )
    with pytest.raises(InvalidInput, match=r"row 1 has the columns .*of one kind"):
        list(texts.predict_iter([TEXTS[0], {"title": "a"}]))
    for wrong, said in (("a text", "X is one text"), (None, "X=None"), ([TEXTS[0], 3], "yields 3")):
        with pytest.raises(InvalidInput, match=said):
            list(texts.predict_iter(wrong))


def test_pieces_without_rows_and_columns_in_another_order():
    clf = LLMClassifier(
        TestingBackend(), classes=[0, 1], prompt="{title} {price} {hint}", cache=None
    )
    frame = pd.DataFrame({"title": TEXTS[:4], "price": range(4)})
    first, second, *_ = frame.to_dict("records")
    turned = dict(reversed(second.items()))
    pieces = [[], frame[:0], first, turned, frame[4:], frame[2:], np.array([])]
    np.testing.assert_array_equal(list(clf.predict_proba_iter(pieces)), clf.predict_proba(frame))
    assert list(classifier().predict_iter([[], frame[:0]])) == []


def test_a_classifier_that_knows_no_streams_is_asked_in_pieces():
    X = [[float(i % 5), float(i % 3)] for i in range(40)]
    clf = CalibratedLLMClassifier(LogisticRegression()).fit(X, LABELS)
    found = list(clf.predict_proba_iter(iter(X), n_ahead=7))
    np.testing.assert_allclose(found, clf.predict_proba(X))
    pieces = [X[0], np.array(X[1:5]), pd.DataFrame(X[5:9]).to_numpy(), *X[9:]]
    np.testing.assert_allclose(list(clf.predict_proba_iter(pieces)), clf.predict_proba(X))
    words = make_pipeline(HashingVectorizer(n_features=16), LogisticRegression()).fit(TEXTS, LABELS)
    mixed = LLMEnsembleClassifier([("llm", classifier()), ("words", words)])
    pieces = [TEXTS[0], TEXTS[1:9], pd.Series(TEXTS[9:])]
    np.testing.assert_allclose(list(mixed.predict_proba_iter(pieces)), mixed.predict_proba(TEXTS))


def test_a_row_that_fails_is_raised_in_its_turn_or_nan():
    texts = ["fine", "good", "down", "well", None, " "]
    found = classifier(on_error="nan")
    with pytest.warns(FailedRowsWarning, match=r"^3 of 6 rows failed; the first is row 2: "):
        proba = np.array(list(found.predict_proba_iter(texts)))
    np.testing.assert_array_equal(np.isnan(proba).any(axis=1), [0, 0, 1, 0, 1, 1])
    with pytest.warns(FailedRowsWarning):
        assert [label is None for label in found.predict_iter(texts)] == [0, 0, 1, 0, 1, 1]
    seen = []
    with pytest.raises(BackendError, match=r"^row 2 failed: .*on_error='nan'"):
        seen.extend(classifier().predict_iter(texts))
    assert len(seen) == 2
    with pytest.raises(InvalidInput, match=r"^X cannot be used: row 1 is missing \(None\)"):
        list(classifier().predict_iter(["fine", None]))


def test_a_stream_that_was_left_is_not_paid_for_again(tmp_path, counted):
    backend = counted()
    clf = classifier(backend=backend, cache=ResponseCache(tmp_path / "c.sqlite"))
    results = clf.predict_iter(TEXTS, n_ahead=4)
    first = list(islice(results, 10))
    results.close()
    n_asked = backend.asked.total()
    assert 10 <= n_asked <= 14
    assert list(clf.predict_iter(TEXTS))[:10] == first
    assert backend.asked.total() == 40


def test_a_model_that_changed_is_found_out():
    clf = KINDS["calibrated"]()
    clf.estimator_.set_params(model__seed=9)
    with pytest.raises(CalibrationMismatch):
        next(clf.predict_iter(TEXTS))


def test_how_many_rows_ahead():
    with pytest.raises(InvalidInput, match="n_ahead"):
        next(classifier().predict_iter(TEXTS, n_ahead=0))


class Alike(BaseBackend):
    """Answers every text alike, and remembers nothing."""

    shows_logprobs = True

    def identity(self):
        return {"provider": "alike", "model": "alike"}

    def run(self, requests):
        for i, request in enumerate(requests):
            tree = label_tree(request.answers)
            listed = [Token(b"A", -0.1), Token(b"B", -3.0)]
            yield i, Reply("A", (tree.distribution(b"", listed),), "alike")


@pytest.mark.parametrize("method", ["predict_proba", "predict_proba_iter"])
def test_memory_does_not_grow_with_records(monkeypatch, method, tmp_path):
    """A record takes 5,000 bytes; what Python keeps of freed objects comes to a hundred here."""
    monkeypatch.setattr(asking, "_N_OPEN", 256)
    monkeypatch.setattr(asking, "_N_RECENT", 16)
    clf = classifier(backend=Alike(), signal="logprobs", verbose=0)
    options = {"n_ahead": 200} if method == "predict_proba_iter" else {}

    def peak(n):
        texts = [f"text {i}" for i in range(n)]
        tracemalloc.start()
        try:
            for _ in getattr(clf, method)(texts, **options):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    a_row = (peak(2_500) - peak(500)) / 2_000
    assert a_row < 400
