from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skllm_calib import LLMClassifier, OpenAIBackend, ResponseCache
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    FailedRowsWarning,
    InvalidInput,
    PromptError,
)

TEXTS = [f"message number {i}" for i in range(12)]
LABELS = ["ham", "spam"] * 6


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "replies.sqlite")


def zero_shot(backend, cache=None, **options):
    return LLMClassifier(backend, cache=cache, **{"classes": ["ham", "spam"], **options})


# ------------------------------------------------------------------------------- predictions


def test_the_methods_agree(counted):
    clf = zero_shot(counted(), classes=["a", "b", "c"])
    proba, log_proba = clf.predict_proba(TEXTS), clf.predict_log_proba(TEXTS)
    assert proba.dtype == log_proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
    np.testing.assert_allclose(np.exp(log_proba), proba)
    np.testing.assert_array_equal(clf.decision_function(TEXTS), log_proba)
    np.testing.assert_array_equal(clf.transform(TEXTS), log_proba)
    assert clf.predict(TEXTS).tolist() == clf.classes_[proba.argmax(axis=1)].tolist()
    binary = zero_shot(counted())
    log_proba = binary.predict_log_proba(TEXTS)
    np.testing.assert_array_equal(
        binary.decision_function(TEXTS), log_proba[:, 1] - log_proba[:, 0]
    )


def test_rows_depend_on_neither_order_nor_company(counted):
    clf = zero_shot(counted())
    proba = clf.predict_proba(TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_array_equal(clf.predict_proba([TEXTS[i] for i in order]), proba[order])
    np.testing.assert_array_equal(clf.predict_proba(TEXTS[3:4]), proba[3:4])


def test_nothing_is_asked_twice(counted, cache):
    backend = counted()
    clf = zero_shot(backend, cache)
    first = clf.predict_proba(TEXTS + TEXTS)
    np.testing.assert_array_equal(clone(clf).predict_proba(TEXTS), first[:12])
    clf.predict(TEXTS)
    assert len(backend.asked) == 12
    assert set(backend.asked.values()) == {1}
    assert (cache.stats().hits, cache.stats().misses) == (24, 12)


@pytest.mark.parametrize("labels", [["ham", "spam"], [1, 2], [-1, 1], [False, True], ["0", "1"]])
def test_types_of_labels(counted, labels):
    clf = LLMClassifier(counted(), cache=None).fit(TEXTS, labels * 6)
    assert clf.classes_.tolist() == labels
    assert clf.predict(TEXTS).dtype == np.asarray(labels).dtype
    assert set(clf.predict(TEXTS).tolist()) <= set(labels)


# ------------------------------------------------------------------------------- fit and classes


def test_fit_asks_nothing_and_returns_itself(counted):
    backend = counted()
    clf = LLMClassifier(backend, cache=None, n_shots=2)
    assert clf.fit(TEXTS, LABELS) is clf
    assert not backend.asked


def test_unfitted_use(counted):
    clf = zero_shot(counted(), classes=["spam", "ham"])
    assert clf.classes_.tolist() == ["ham", "spam"]
    assert clf.predict(TEXTS).shape == (12,)
    assert not hasattr(LLMClassifier(), "classes_")
    for unready in (LLMClassifier(counted()), zero_shot(counted(), n_shots=1)):
        with pytest.raises(NotFittedError):
            unready.predict(TEXTS)


def test_fit_without_labels(counted):
    assert zero_shot(counted()).fit(TEXTS).classes_.tolist() == ["ham", "spam"]
    with pytest.raises(ValueError, match=r"classes=\[\.\.\.\]"):
        LLMClassifier(counted()).fit(TEXTS)
    with pytest.raises(ValueError, match="n_shots=1 needs labelled"):
        zero_shot(counted(), n_shots=1).fit(TEXTS)


def test_declared_classes_and_y(counted):
    clf = zero_shot(counted(), classes=["z", "spam", "ham"]).fit(TEXTS, LABELS)
    assert clf.classes_.tolist() == ["ham", "spam", "z"]
    assert clf.predict_proba(TEXTS).shape == (12, 3)
    with pytest.raises(ValueError, match="y holds 'spam' in row 1, which is not one of the labels"):
        zero_shot(counted(), classes=["ham", "eggs"]).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"label_texts": {"x": "y"}}, "label_texts has 'x'"),
        ({"label_texts": {"ham": "spam"}}, "same text"),
        ({"label_texts": {"ham": ""}}, "is empty"),
        ({"label_descriptions": {"x": "y"}}, "label_descriptions has 'x'"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'nan', got 'ignore'"),
        ({"signal": "votes"}, "signal='votes'"),
        ({"n_shots": -1}, "n_shots must be an integer of at least 0, got -1"),
        ({"n_shots": 1.5}, "n_shots must be an integer of at least 0, got 1.5"),
        ({"prompt": "{txt}"}, "unknown field"),
        ({"model": None}, "model=None"),
        ({"model": "gpt-4o"}, "unknown"),
    ],
)
def test_bad_parameters(counted, options, problem):
    clf = zero_shot(counted()).set_params(**options)
    with pytest.raises(ValueError, match=problem):
        clf.fit(TEXTS, LABELS)


@pytest.mark.parametrize("classes", [["ham", "spam"], [1, 2], [-1, 1], [5, 7]])
def test_positions_in_the_place_of_labels(counted, classes):
    clf = LLMClassifier(counted(), classes=classes, cache=None)
    named = clf.fit(["a", "b"], classes).predict_proba(["a", "b"])
    numbered = clf.fit(["a", "b"], [0, 1])
    assert numbered.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(numbered.predict_proba(["a", "b"]), named)
    with pytest.raises(ValueError, match="which is not one of the labels"):
        clf.fit(["a", "b"], [0, 9])


def test_bad_parameters_without_fit(counted):
    with pytest.raises(ValueError, match="on_error"):
        zero_shot(counted(), on_error="ignore").predict(TEXTS)
    with pytest.raises(TypeError, match="cache=3"):
        zero_shot(counted(), cache=3).predict(TEXTS)
    with pytest.raises(PromptError):
        zero_shot(counted(), prompt=3).predict(TEXTS)


def test_wording_and_descriptions_reach_the_prompt(counted):
    clf = zero_shot(
        counted(),
        classes=[0, 1],
        label_texts={0: "regular", 1: "unwanted"},
        label_descriptions={1: "advertising"},
    )
    said = clf.render(["hello"])[0][0]["content"]
    assert "regular" in said
    assert "unwanted: advertising" in said
    assert clf.explain(["hello"])[0]["answers"] == {0: "regular", 1: "unwanted"}


def test_examples_are_seeded_balanced_and_independent_of_order(counted):
    clf = LLMClassifier(counted(), n_shots=2, cache=None).fit(TEXTS, LABELS)
    assert [label for _, label in clf.examples_] == ["ham", "spam", "spam", "ham"]
    again = clone(clf).fit(TEXTS[::-1], LABELS[::-1])
    assert again.examples_ == clf.examples_
    assert again.fingerprint_ == clf.fingerprint_
    other = clone(clf).set_params(random_state=1).fit(TEXTS, LABELS)
    assert other.examples_ != clf.examples_
    assert other.fingerprint_ != clf.fingerprint_
    (turns,) = clf.render(["row"])
    assert [t["content"] for t in turns if t["role"] == "assistant"] == [
        label for _, label in clf.examples_
    ]
    assert clf.needs_cross_fitting()
    assert not zero_shot(counted()).needs_cross_fitting()


def test_rows_of_weight_zero_are_left_out(counted):
    weight = np.array([0.0, 1.0] * 6)
    clf = LLMClassifier(counted(), n_shots=3, cache=None).fit(TEXTS, LABELS, sample_weight=weight)
    assert clf.classes_.tolist() == ["spam"]
    weight = np.array([1.0] * 6 + [0.0] * 6)
    clf = clone(clf).fit(TEXTS, LABELS, sample_weight=weight)
    assert {text for text, _ in clf.examples_} == set(TEXTS[:6])
    with pytest.raises(ValueError, match="zero"):
        clone(clf).fit(TEXTS, LABELS, sample_weight=np.zeros(12))


def test_lengths_must_agree(counted):
    with pytest.raises(ValueError, match="y has 5 labels for 12 rows"):
        LLMClassifier(counted()).fit(TEXTS, LABELS[:5])


# ------------------------------------------------------------------------------- failures


def test_a_failing_row_raises_after_the_others_are_kept(counted, cache):
    backend = counted(fail_on=("number 3", "number 5"))
    with pytest.raises(BackendError, match=r"2 of 12 rows.*row 3.*are kept.*on_error='nan'"):
        zero_shot(backend, cache).predict(TEXTS)
    assert len(cache) == 10
    healthy = TestingBackend(name=backend.name)
    backend.forget()
    zero_shot(healthy, cache).predict(TEXTS)
    assert sum(healthy.asked.values()) == 2
    with pytest.raises(BackendError) as caught:
        zero_shot(backend).predict(TEXTS)
    assert "kept" not in str(caught.value)


def test_a_failing_row_becomes_nan(counted):
    clf = zero_shot(counted(fail_on=("number 3",)), on_error="nan")
    whole = zero_shot(counted()).predict_proba(TEXTS)
    with pytest.warns(FailedRowsWarning, match="1 of 12 rows failed; the first is row 3"):
        proba = clf.predict_proba(TEXTS)
    assert np.isnan(proba).all(axis=1).tolist() == [i == 3 for i in range(12)]
    assert proba.shape == whole.shape
    with pytest.warns(FailedRowsWarning):
        labels = clf.predict(TEXTS)
    assert labels[3] is None
    assert set(np.delete(labels, 3)) <= {"ham", "spam"}
    records = clf.explain(TEXTS)  # says so itself: no warning
    assert "told to fail" in records[3]["failure"]
    assert records[3]["label"] is None
    assert records[4]["failure"] is None


def test_texts_that_cannot_be_used(counted):
    backend = counted()
    with pytest.raises(ValueError, match=r"row 1 is missing.*2 such rows.*on_error='nan'"):
        zero_shot(backend).predict(["a", None, ""])
    with pytest.raises(InvalidInput, match="row 1 is an empty text") as caught:
        zero_shot(backend).fit(["a", ""], ["ham", "spam"])
    assert (caught.value.parameter, caught.value.row) == ("X", 1)
    assert not backend.asked
    with pytest.warns(FailedRowsWarning, match="2 of 3"):
        assert zero_shot(backend, on_error="nan").predict(["a", None, ""])[1:].tolist() == [
            None,
            None,
        ]
    clf = zero_shot(backend, on_error="nan")
    assert clf.render(["a", None])[1] == []
    assert clf.explain(["a", None])[1]["failure"].startswith("row 1 is missing")


def test_the_error_keeps_what_it_knows(counted):
    class Short(TestingBackend):
        def run(self, requests):
            yield from ((i, ContextTooLong("7 too many", 7)) for i in range(len(requests)))

    with pytest.raises(ContextTooLong, match=r"1 of 1 rows.*7 too many") as caught:
        zero_shot(Short()).predict(["a"])
    assert caught.value.excess == 7


STOP = """
import sys
from skllm_calib import LLMClassifier
from skllm_calib.backends import TestingBackend

class Slow(TestingBackend):
    def run(self, requests):
        for n, answer in enumerate(super().run(requests)):
            if n == 5:
                print("five are answered", flush=True)
                sys.stdin.read()
            yield answer

texts = [f"message number {i}" for i in range(12)]
backend = Slow(name="killed")
LLMClassifier(backend, classes=["ham", "spam"], cache=sys.argv[1]).predict(texts)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_where_it_was(cache):
    command = [sys.executable, "-c", STOP, str(cache.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as run:
        assert run.stdout.readline() == "five are answered\n"
        os.kill(run.pid, signal.SIGKILL)
    backend = TestingBackend(name="killed")
    backend.forget()
    clf = zero_shot(backend, cache)
    proba = clf.predict_proba(TEXTS)
    assert sum(backend.asked.values()) == 7
    np.testing.assert_array_equal(zero_shot(backend).predict_proba(TEXTS), proba)


def test_workers_share_the_cache(counted, cache):
    backend = counted()
    clf = zero_shot(backend, cache).fit(TEXTS, LABELS)
    parts = Parallel(n_jobs=2)(delayed(clf.predict_proba)(TEXTS[i : i + 4]) for i in (0, 4, 8))
    np.testing.assert_array_equal(np.vstack(parts), clf.predict_proba(TEXTS))
    assert not backend.asked  # in this process: the workers have asked it all


# ------------------------------------------------------------------------------- looking inside


def test_explain(counted, cache):
    clf = zero_shot(counted({"prize": {"ham": 0.2, "spam": 0.8}}), cache)
    (record,) = clf.explain(["a prize"])
    assert record["label"] == "spam"
    assert record["probability"] == pytest.approx(0.8)
    assert record["off_label"] == pytest.approx(0.05)
    assert record["label_listed"] == {"ham": True, "spam": True}
    assert record["label_mass_low"]["spam"] == pytest.approx(0.76)
    assert record["answers"] == {"ham": "ham", "spam": "spam"}
    assert record["signal"] == "logprobs"
    assert record["model"].startswith("testing-")
    assert record["prompt_tokens"] > 0
    assert (record["cached"], record["failure"], record["notes"]) == (False, None, [])
    json.dumps(record)
    assert clf.explain(["a prize"])[0]["cached"]


def test_render_asks_nothing(counted):
    backend = counted()
    (turns,) = zero_shot(backend).render(["hello"])
    assert turns[-1]["role"] == "user"
    assert "hello" in turns[-1]["content"]
    assert not backend.asked


@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
@pytest.mark.parametrize("method", ["score", "explain"])
def test_prepared_rows_ask_nothing_until_they_are_scored(counted, cache, method):
    backend = counted()
    clf = zero_shot(backend, cache, on_error="nan")
    assert clf.prepare_rows(TEXTS).fingerprint is None
    prepared = clf.fit(TEXTS).prepare_rows([None, *TEXTS])
    assert prepared.fingerprint == clf.fingerprint_
    assert not backend.asked
    assert getattr(prepared, method)().served_model == f"testing-{backend.name}"
    assert getattr(clf.prepare_rows([None]), method)().served_model is None
    clf.set_params(model=counted(seed=1))  # what was prepared is settled
    again = getattr(prepared, method)().served_model
    assert again == f"testing-{backend.name}"


def test_neither_key_nor_network_behind_the_repr(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    def connect(*args):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", connect)
    clf = LLMClassifier("openai:gpt-4o-mini", signal="logprobs", n_shots=1).fit(TEXTS, LABELS)
    backend = OpenAIBackend("gpt-4o-mini")
    shown = [repr(clf), clf._repr_html_(), str(clf.get_params()), str(clf.fingerprint_)]
    shown += [str(backend.identity()), repr(backend), repr(pickle.dumps(clf))]
    assert not [text for text in shown if "secret" in text]


def test_pickles_are_small(counted, cache):
    clf = zero_shot(counted(), cache).fit(TEXTS * 100, LABELS * 100)
    proba = clf.predict_proba(TEXTS)
    stored = pickle.dumps(clf)
    assert len(stored) < 3_000
    np.testing.assert_array_equal(pickle.loads(stored).predict_proba(TEXTS), proba)


def test_refitting_forgets(counted):
    clf = LLMClassifier(counted(), n_shots=1, cache=None).fit(TEXTS, LABELS)
    fresh = clone(clf).fit(TEXTS, ["x", "y", "z"] * 4)
    assert clf.fit(TEXTS, ["x", "y", "z"] * 4).examples_ == fresh.examples_
    assert clf.fingerprint_ == fresh.fingerprint_


def test_frames(counted):
    frame = pd.DataFrame({"title": TEXTS, "n": range(12)}, index=range(100, 112))
    clf = zero_shot(counted(), prompt="{title} {n}").fit(frame, pd.Series(LABELS))
    assert clf.feature_names_in_.tolist() == ["title", "n"]
    np.testing.assert_array_equal(clf.predict_proba(frame.iloc[5:]), clf.predict_proba(frame)[5:])
    assert clf.get_feature_names_out().tolist() == ["logprob_ham", "logprob_spam"]


@pytest.mark.parametrize(
    "classes", [["legit", "fraud"], ["no", "maybe", "a"], [5, 1], [True, False]]
)
def test_positions_of_classes_that_are_not_sorted_are_refused(counted, classes):
    clf = LLMClassifier(counted(), classes=classes, cache=None)
    if set(classes) == {True, False}:
        clf.fit(["a", "b"], [0, 1])  # 0 and 1 are the labels False and True
        return
    with pytest.raises(ValueError, match="which are not sorted: whether 0 is the first"):
        clf.fit(["a", "b"], [0, 1])
    assert clf.fit(["a", "b"], classes[:2]).classes_.tolist() == sorted(classes)
