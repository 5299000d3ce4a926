"""Every signal in scikit-learn's tools, as users write them: nothing is special about any."""

from __future__ import annotations

import io
import itertools
import json
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from signal_contract import made_up
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skllm_calib import (
    CalibratedLLMClassifier,
    LLMClassifier,
    LLMEnsembleClassifier,
    ResponseCache,
    log_loss_scorer,
)
from skllm_calib.backends import TestingBackend, clear_handles
from skllm_calib.exceptions import SignalUnavailable
from skllm_calib.signals import (
    SIGNALS,
    Evidence,
    FusedSignal,
    LogprobSignal,
    MCDropoutSignal,
    OrderAveragedSignal,
    PTrueSignal,
    ReasonedSignal,
    SelfCheckSignal,
    SelfConsistencySignal,
    SelfReportedSignal,
    Signal,
)

LABELS = ["ham", "spam"]
TEXTS = [f"message {i:02d}" for i in range(40)]
Y = np.array(LABELS * 20)

# Few draws and passes where the number does not matter, for the sake of time.
FEW = {
    "self_consistency": SelfConsistencySignal(n_draws=3),
    "self_check": SelfCheckSignal(n_draws=1),
    "mc_dropout": MCDropoutSignal(n_passes=2),
}
# Each a way to set up the evidence: the parameters that users give.
EVIDENCE = {
    **{name: {"signal": FEW.get(name, name)} for name in SIGNALS},
    "auto": {"signal": "auto"},
    "guesses": {"signal": SelfReportedSignal(form="guesses")},
    "orders drawn": {"signal": SelfConsistencySignal(n_draws=4, variants="orders")},
    "candidates": {"signal": PTrueSignal(candidates="all")},
    "the label reasoned": {"signal": ReasonedSignal(read="label")},
    "list": {"signal": ["logprobs", "self_reported"]},
    "list of objects": {"signal": ["reasoned", FEW["self_consistency"]]},
    "weighted": {"signal": FusedSignal([LogprobSignal(), PTrueSignal()], weights=[2, 1])},
    "two orders": {"signal": "logprobs", "order_averaging": 2},
    "contextual prior": {"signal": "logprobs", "prior_correction": "contextual"},
    "domain prior": {"signal": "logprobs", "prior_correction": "domain"},
    "batch prior": {"signal": "logprobs", "prior_correction": "batch"},
    "all at once": {
        "signal": ["logprobs", "self_reported"],
        "order_averaging": 2,
        "prior_correction": "batch",
        "n_shots": 1,
    },
}

# Those that scikit-learn's own checks are run on, each of which predicts some thousand rows.
CHECKED = [
    *SIGNALS,
    *("list", "two orders", "domain prior", "batch prior"),
]

every_evidence = pytest.mark.parametrize("options", EVIDENCE.values(), ids=EVIDENCE)
every_signal = pytest.mark.parametrize("signal", [FEW.get(name, name) for name in SIGNALS], ids=str)


def llm(backend=None, **options):
    options.setdefault("cache", None)
    return LLMClassifier(backend or made_up(), **options)


class Withholding(TestingBackend):
    """Refuses to show probabilities of labels, as many hosted models do."""

    shows_logprobs = False

    def run(self, requests):
        for i, request in enumerate(requests):
            if request.answers or request.choices:
                yield i, SignalUnavailable("only text here")
            else:
                ((_, answer),) = super().run([request])
                yield i, answer


class Fickle(TestingBackend):
    """Answers the same request another way each time, as hosted models do when they sample."""

    n_asked = itertools.count()

    def _rng(self, request, *more):
        return super()._rng(request, *more, next(self.n_asked)) if more else super()._rng(request)


# -- scikit-learn's own checks ---------------------------------------------------------------------


@parametrize_with_checks([llm(**EVIDENCE[name]) for name in CHECKED])
def test_all_checks_pass(estimator, check):
    check(estimator)


# -- what a row depends on -------------------------------------------------------------------------


@every_evidence
def test_a_row_depends_on_neither_order_nor_company(options):
    clf = llm(**options).fit(TEXTS, Y)
    whole = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, atol=1e-12)
    assert (whole > 0).all()
    assert len(np.unique(whole[:, 0])) > 1
    np.testing.assert_array_equal(clf.predict_proba(TEXTS[::-1])[::-1], whole)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS[7:11]), whole[7:11])
    alone = [clf.predict_proba([text])[0] for text in TEXTS[:5]]
    np.testing.assert_array_equal(alone, whole[:5])
    np.testing.assert_array_equal(clf.predict_proba(TEXTS[:3] * 2), np.tile(whole[:3], (2, 1)))


@every_evidence
def test_the_methods_agree(options):
    clf = llm(**options).fit(TEXTS, Y)
    proba = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(TEXTS)), proba)
    assert clf.predict(TEXTS).tolist() == clf.classes_[proba.argmax(axis=1)].tolist()
    np.testing.assert_allclose(clf.decision_function(TEXTS), np.log(proba[:, 1] / proba[:, 0]))
    records = clf.explain(TEXTS)
    assert [record["label"] for record in records] == clf.predict(TEXTS).tolist()
    np.testing.assert_allclose([list(r["log_proba"].values()) for r in records], np.log(proba))
    assert {record["signal"] for record in records} == {clf.signal_}
    json.dumps([records, clf.fingerprint_])  # plain values, to be kept in any log


def test_a_failing_row_costs_no_other_whatever_the_signal():
    for signal in EVIDENCE["list"]["signal"], *FEW.values(), "p_true", "reasoned":
        backend = TestingBackend(fail_on=("message 07",))
        clf = llm(backend, classes=LABELS, signal=signal, on_error="nan")
        with pytest.warns(UserWarning, match="1 of 40 rows failed; the first is row 7"):
            proba = clf.predict_proba(TEXTS)
        assert np.flatnonzero(np.isnan(proba).any(axis=1)).tolist() == [7]
        whole = llm(classes=LABELS, signal=signal).predict_proba(TEXTS)
        others = np.arange(40) != 7
        np.testing.assert_array_equal(proba[others], whole[others])


# -- labels and tables -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [["ham", "spam", "a longer one"], [3, 7, 11], [False, True], np.array([5, 9], dtype=np.int8)],
    ids=["str", "int", "bool", "int8"],
)
@every_evidence
def test_types_of_labels(options, labels):
    y = np.resize(np.asarray(labels), 40)
    clf = llm(**options).fit(TEXTS, y)
    predicted = clf.predict(TEXTS)
    assert clf.classes_.tolist() == sorted(np.asarray(labels).tolist())
    assert predicted.dtype.kind == y.dtype.kind
    assert set(predicted.tolist()) <= set(y.tolist())
    assert len(set(predicted.tolist())) > 1
    assert 0 <= clf.score(TEXTS, y) <= 1


@every_evidence
def test_tables_of_several_columns(options):
    frame = pd.DataFrame(
        {"title": TEXTS, "n": range(40), "seen": pd.array([True, False] * 20)},
        index=range(100, 140),
    )
    clf = llm(**options).fit(frame, pd.Series(Y, index=frame.index, dtype="category"))
    assert clf.feature_names_in_.tolist() == ["title", "n", "seen"]
    whole = clf.predict_proba(frame)
    np.testing.assert_array_equal(clf.predict_proba(frame.iloc[::-3]), whole[::-3])
    other = clf.predict_proba(frame.assign(n=range(1, 41)))
    assert (other != whole).any(axis=1).mean() > 0.2  # a column among others is read, too
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame[["n", "title", "seen"]])


# -- parameters ------------------------------------------------------------------------------------


def test_the_parameters_of_a_signal_are_those_of_the_classifier():
    clf = llm(signal=SelfConsistencySignal(n_draws=7))
    assert clf.get_params()["signal__n_draws"] == 7
    copied = clone(clf).set_params(signal__n_draws=3, signal__smoothing=0.1)
    assert repr(copied.signal) == "SelfConsistencySignal(n_draws=3, smoothing=0.1)"
    assert clf.signal.n_draws == 7  # a clone shares nothing
    for signal in ("p_true", PTrueSignal(), ["logprobs", PTrueSignal(candidates="all")]):
        assert repr(clone(clf.set_params(signal=signal)).signal) == repr(signal)
    inside = llm(signal=OrderAveragedSignal(SelfConsistencySignal()))
    assert inside.set_params(signal__signal__n_draws=3).signal.signal.n_draws == 3


def test_lists_are_cloned_with_what_is_in_them():
    given = ["logprobs", SelfConsistencySignal(n_draws=4)]
    clf = llm(signal=given, classes=LABELS)
    copied = clone(clf)
    assert copied.signal is not given
    assert copied.signal[1] is not given[1]
    assert repr(copied) == repr(clf)
    copied.signal[1].set_params(n_draws=2)
    assert given[1].n_draws == 4
    clf.fit(TEXTS, Y)
    assert clf.signal is given  # fit leaves its parameters alone
    assert repr(given) == "['logprobs', SelfConsistencySignal(n_draws=4)]"


def test_a_signal_has_no_memory():
    """One object in two classifiers, or fitted twice, gives what two objects do."""
    shared = SelfConsistencySignal(n_draws=4)
    one, other = llm(signal=shared), llm(signal=shared, prompt="{text}: which? {hint}")
    one.fit(TEXTS, Y), other.fit(TEXTS, Y)
    alone = llm(signal=clone(shared)).fit(TEXTS, Y)
    np.testing.assert_array_equal(one.predict_proba(TEXTS), alone.predict_proba(TEXTS))
    assert sorted(vars(shared)) == sorted(shared.get_params())


@pytest.mark.parametrize(
    ("signal", "name", "values"),
    [
        (SelfConsistencySignal(), "n_draws", np.arange(2, 4)),
        (SelfConsistencySignal(), "max_tokens", np.array([8, 16])),
        (SelfConsistencySignal(), "temperature", np.array([0.5, 1], dtype=np.float32)),
        (SelfCheckSignal(n_draws=2), "max_tokens", np.array([8, 16])),
        (SelfCheckSignal(), "n_draws", np.array([1, 2])),
        (ReasonedSignal(), "max_tokens", np.array([8, 16])),
        (SelfReportedSignal(form="guesses"), "n_guesses", np.array([1, 2])),
        (SelfReportedSignal(), "max_tokens", np.array([50, 60])),
        (MCDropoutSignal(n_passes=2), "rate", np.array([0.1, 0.2], dtype=np.float32)),
        (MCDropoutSignal(), "n_passes", np.array([2, 3])),
        (MCDropoutSignal(n_passes=2), "random_state", np.array([0, 1])),
        (OrderAveragedSignal(LogprobSignal()), "n_orders", np.array([1, 2])),
        (FusedSignal([LogprobSignal(), PTrueSignal()]), "weights", [*np.array([[1, 2], [2, 1]])]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_grids_may_be_arrays(signal, name, values):
    search = GridSearchCV(
        llm(signal=signal), {f"signal__{name}": values}, cv=2, error_score="raise"
    ).fit(TEXTS, Y)
    json.dumps(search.best_estimator_.fingerprint_)
    plain = values[search.best_index_].tolist()
    named = llm(signal=clone(signal).set_params(**{name: plain})).fit(TEXTS, Y)
    if not isinstance(plain, float):  # a number of single precision is not what its digits say
        assert named.fingerprint_ == search.best_estimator_.fingerprint_
    np.testing.assert_array_equal(named.predict_proba(TEXTS), search.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("signal", "match"),
    [
        (SelfConsistencySignal(n_draws=2.5), r"n_draws=2\.5: must be a whole number"),
        (SelfCheckSignal(n_draws=2.5), r"n_draws=2\.5: must be a whole number"),
        (MCDropoutSignal(n_passes=True), "n_passes=True: must be a whole number"),
        (ReasonedSignal(max_tokens=0), "max_tokens=0: must be a whole number, 1 or more"),
        (SelfReportedSignal(max_tokens=-1), "max_tokens=-1: must be a whole number, 1 or more"),
        (OrderAveragedSignal(LogprobSignal(), n_orders=0), "n_orders=0: must be a whole number"),
        (OrderAveragedSignal("logprobs"), "signal='logprobs': .* is not a Signal.* LogprobSignal"),
        (OrderAveragedSignal(), "signal=None: None is not a Signal"),
        (FusedSignal(["logprobs"]), r"signals=\['logprobs'\]: 'logprobs' is not a Signal"),
        (PTrueSignal, "signal=<class .*: must be one of 'auto', 'logprobs'"),
    ],
    ids=str,
)
def test_bad_signals_are_named(signal, match):
    with pytest.raises(ValueError, match=match):
        llm(signal=signal).fit(TEXTS, Y).predict(TEXTS)


# -- searching -------------------------------------------------------------------------------------

GRIDS = {
    "names": {"signal": [*SIGNALS]},
    "objects": {"signal": [SelfConsistencySignal(n_draws=2), PTrueSignal(candidates="all")]},
    "lists": {"signal": [["logprobs", "p_true"], ["logprobs", "self_reported"]]},
    "a mixture": {"signal": ["auto", [ReasonedSignal(), "p_true"], PTrueSignal()]},
    "draws": [{"signal": [SelfConsistencySignal()], "signal__n_draws": [2, 3]}],
    "corrections": {
        "prior_correction": [None, "contextual", "domain", "batch", {"ham": 0.4, "spam": 0.6}]
    },
    "orders": {"order_averaging": [1, 2], "signal": ["logprobs", "self_reported"]},
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_grid_search(grid):
    search = GridSearchCV(
        llm(classes=LABELS), grid, cv=2, scoring=log_loss_scorer, error_score="raise"
    ).fit(TEXTS, Y)
    found = search.cv_results_
    assert len({round(score, 12) for score in found["mean_test_score"]}) > 1
    for params, score in zip(found["params"], found["mean_test_score"], strict=True):
        apart = clone(llm(classes=LABELS)).set_params(**clone(params, safe=False))
        alone = cross_val_score(apart, TEXTS, Y, cv=2, scoring=log_loss_scorer)
        assert alone.mean() == score
    best = search.best_estimator_
    assert repr(best) == repr(llm(classes=LABELS).set_params(**search.best_params_))
    np.testing.assert_array_equal(search.predict_proba(TEXTS), best.predict_proba(TEXTS))


def test_a_search_over_draws_pays_for_the_largest_number_only(tmp_path):
    cache = ResponseCache(tmp_path / "replies.sqlite")
    signal = SelfConsistencySignal(stop_early=False)
    grid = {"signal__n_draws": [2, 5, 3]}
    GridSearchCV(llm(classes=LABELS, signal=signal, cache=cache), grid, cv=2).fit(TEXTS, Y)
    assert len(cache) == 5 * len(TEXTS)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_find_the_same_numbers(backend):
    options = {"cv": 2, "scoring": log_loss_scorer, "error_score": "raise"}
    signals = [*EVIDENCE["list"]["signal"], *FEW.values(), EVIDENCE["list"]["signal"]]
    grid = [{"signal": signals}, {"order_averaging": [2], "prior_correction": ["domain", "batch"]}]
    alone = GridSearchCV(llm(classes=LABELS), grid, **options).fit(TEXTS, Y)
    with parallel_config(backend=backend):
        side_by_side = GridSearchCV(llm(classes=LABELS), grid, n_jobs=2, **options).fit(TEXTS, Y)
    for one, other in (
        (alone.cv_results_["mean_test_score"], side_by_side.cv_results_["mean_test_score"]),
        (alone.predict_proba(TEXTS), side_by_side.predict_proba(TEXTS)),
    ):
        np.testing.assert_array_equal(one, other)


# -- calibrating, voting, stacking -----------------------------------------------------------------


@every_evidence
def test_calibration_on_top(options):
    clf = CalibratedLLMClassifier(llm(**options), method="temperature").fit(TEXTS, Y)
    proba = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    raw = clf.estimator_.predict_proba(TEXTS)
    assert (proba.argmax(axis=1) == raw.argmax(axis=1)).all()  # a temperature changes no answer
    card = clf.calibration_card_
    assert clf.estimator_.signal_.split("+")[0] in card["signal"]
    assert card["signal_reason"]
    again = json.loads(card.to_json())
    assert again["signal"] == card["signal"]
    for record, row in zip(clf.explain(TEXTS[:3]), proba, strict=False):
        np.testing.assert_allclose(list(record["calibrated"].values()), row)


@every_signal
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_scikit_learns_calibration_on_top(signal, method):
    clf = CalibratedClassifierCV(llm(signal=signal), method=method, cv=3).fit(TEXTS, Y)
    proba = clf.predict_proba(TEXTS)
    assert proba.shape == (40, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert proba[:, 1].mean() == pytest.approx(0.5, abs=0.15)  # half of the rows are spam


@every_evidence
def test_held_out_predictions(options):
    # Places of labels are passed to fit in their stead; the model is to be asked for labels.
    clf = llm(**options, classes=LABELS)
    proba = cross_val_predict(clf, TEXTS, Y, cv=4, method="predict_proba")
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    if not set(options) & {"prior_correction", "n_shots"}:  # else each fold is another classifier
        np.testing.assert_array_equal(proba, clf.fit(TEXTS, Y).predict_proba(TEXTS))


def members():
    return [
        (name, llm(classes=LABELS, **EVIDENCE[name]))
        for name in ("logprobs", "self_consistency", "p_true", "list", "two orders")
    ]


def test_signals_vote():
    vote = VotingClassifier(members(), voting="soft").fit(TEXTS, Y)
    apart = [member.fit(TEXTS, Y).predict_proba(TEXTS) for _, member in members()]
    np.testing.assert_allclose(vote.predict_proba(TEXTS), np.mean(apart, axis=0))
    assert vote.classes_.tolist() == LABELS
    assert set(vote.predict(TEXTS).tolist()) == set(LABELS)


def test_signals_are_stacked():
    log_odds = {"stack_method": "decision_function"}
    stack = StackingClassifier(members(), LogisticRegression(), cv=3, **log_odds).fit(TEXTS, Y)
    assert stack.transform(TEXTS).shape == (40, 5)
    assert stack.predict_proba(TEXTS).shape == (40, 2)
    apart = [member.fit(TEXTS, Y).decision_function(TEXTS) for _, member in members()]
    np.testing.assert_array_equal(stack.transform(TEXTS), np.column_stack(apart))


def test_signals_are_features():
    clf = make_pipeline(llm(signal=["logprobs", "p_true"]), LogisticRegression()).fit(TEXTS, Y)
    assert clf.predict_proba(TEXTS).shape == (40, 2)
    assert clf[0].get_feature_names_out().tolist() == ["logprob_ham", "logprob_spam"]


def fused(**options):
    clf = llm(classes=LABELS)
    signals = ["logprobs", "self_reported", FEW["self_consistency"]]
    return LLMEnsembleClassifier.over(clf, signal=signals, **options)


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_signals_with_fitted_weights_calibrated(pooling, tmp_path):
    clf = CalibratedLLMClassifier(fused(weights="fit", pooling=pooling)).fit(TEXTS, Y)
    ensemble = clf.estimator_
    names = ["logprobs", "self_reported", "self_consistency"]
    assert list(ensemble.named_estimators_) == names
    assert ensemble.weights_.sum() == pytest.approx(1)
    assert (ensemble.weights_ >= 0).all()
    assert clf.calibration_card_["signal"].split(", ")[:2] == names[:2]
    proba = clf.predict_proba(TEXTS)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS[::-1])[::-1], proba)
    record = clf.explain(TEXTS[:1])[0]
    assert {m["signal"] for m in record["members"].values()} == set(names)
    clf.save(tmp_path)
    again = CalibratedLLMClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), proba)
    held_out = cross_val_predict(clf, TEXTS, Y, cv=3, method="predict_proba")
    assert np.isfinite(held_out).all()


def test_a_list_is_the_ensemble_of_its_signals():
    """Fused in the classifier or by an ensemble of equal weights: the same numbers."""
    signals = ["logprobs", "self_reported", FEW["self_consistency"]]
    one = llm(classes=LABELS, signal=signals).predict_log_proba(TEXTS)
    np.testing.assert_allclose(fused().predict_log_proba(TEXTS), one)


# -- keeping ---------------------------------------------------------------------------------------


def copies(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return [pickle.loads(pickle.dumps(estimator)), joblib.load(file)]


@every_evidence
def test_pickles_answer_alike(options):
    clf = llm(**options).fit(TEXTS, Y)
    for again in copies(clf):
        assert repr(again) == repr(clf)
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
        assert (again.signal_, again.signal_reason_) == (clf.signal_, clf.signal_reason_)
        assert again.fingerprint_ == clf.fingerprint_


def test_what_auto_settled_is_kept():
    backend = Withholding(name="kept")
    backend.forget()
    clear_handles()
    clf = llm(backend).fit(TEXTS, Y)
    assert clf.signal_ == "self_reported"
    n_asked = sum(backend.asked.values())
    clear_handles()  # as in another process
    for again in copies(clf):
        assert again.signal_ == "self_reported"
        assert "only text here" in again.signal_reason_
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert sum(backend.asked.values()) == n_asked + 4 * len(TEXTS)  # nothing was probed again
    assert not hasattr(clone(clf), "signal_")


# -- draws -----------------------------------------------------------------------------------------


def votes(clf):
    return [record["votes"]["spam"] for record in clf.explain(TEXTS)]


def test_draws_of_the_testing_backend_repeat():
    signal = SelfConsistencySignal(n_draws=9, stop_early=False)
    clf = llm(classes=LABELS, signal=signal)
    first = votes(clf)
    assert len(set(first)) > 3  # the draws of one row differ from each other
    assert votes(clf) == votes(clone(clf)) == first


def test_draws_of_others_repeat_with_a_cache_only(tmp_path):
    signal = SelfConsistencySignal(n_draws=9, stop_early=False)
    clf = llm(Fickle(name="fickle"), classes=LABELS, signal=signal)
    assert votes(clf) != votes(clf)
    clf.set_params(cache=tmp_path / "replies.sqlite")
    first = clf.predict_proba(TEXTS)
    assert len(ResponseCache(tmp_path / "replies.sqlite")) == 9 * len(TEXTS)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), first)
    np.testing.assert_array_equal(clone(clf).fit(TEXTS, Y).predict_proba(TEXTS[::-1])[::-1], first)


# -- weights of rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["contextual", "domain", "batch", [0.3, 0.7]], ids=str)
@pytest.mark.parametrize("y", [Y, None], ids=["labels", "none"])
def test_a_weight_counts_like_repeated_rows_in_the_correction_of_the_prior(counted, prior, y):
    counts = np.array([0, 1, 3, 2] * 10)
    repeated = np.repeat(np.arange(40), counts)
    clf = llm(backend := counted(), classes=LABELS, prior_correction=prior)
    clf.fit(TEXTS, y, sample_weight=counts)
    asked = " ".join(backend.asked)
    assert not [text for text in TEXTS[::4] if text in asked]  # nothing is paid for left out rows
    same = clone(clf).fit([TEXTS[i] for i in repeated], None if y is None else y[repeated])
    np.testing.assert_allclose(clf.label_bias_, same.label_bias_, atol=1e-9)
    if prior != "contextual":
        unweighted = clone(clf).fit(TEXTS, y)
        assert not np.allclose(clf.label_bias_, unweighted.label_bias_)


def test_the_row_that_failed_in_fit_is_named_by_its_place():
    backend = TestingBackend(fail_on=("message 07",))
    clf = llm(backend, classes=LABELS, prior_correction="batch", on_error="nan")
    with pytest.warns(UserWarning, match="the first is row 7"):
        clf.fit([None, *TEXTS[1:]], sample_weight=[1, 0] + [1] * 38)


# -- a signal of one's own -------------------------------------------------------------------------


class Hunch(Signal):
    """Nothing is asked: the longer a text, the more it is the last class."""

    name = "hunch"

    def __init__(self, *, strength=1.0):
        self.strength = strength

    def ask(self, question):
        yield []
        score = np.zeros(len(question.texts))
        score[-1] = self.strength * len(question.fields["text"]) / 10
        return Evidence(score - np.logaddexp.reduce(score))


def test_a_signal_of_ones_own(counted):
    backend = counted()
    clf = llm(backend, signal=Hunch(strength=0.5), classes=LABELS)
    proba = clf.predict_proba(["short", "very much longer"])
    assert proba[0, 1] < proba[1, 1]
    search = GridSearchCV(clf, {"signal__strength": [0.0, 0.5]}, cv=2).fit(TEXTS, Y)
    assert search.best_estimator_.signal_ == "hunch"
    assert not backend.asked
    pooled = llm(backend, signal=["logprobs", Hunch()], order_averaging=2).fit(TEXTS, Y)
    assert pooled.signal_ == "logprobs+hunch"
    calibrated = CalibratedLLMClassifier(pooled).fit(TEXTS, Y)
    assert "hunch" in calibrated.calibration_card_["signal"]
