from __future__ import annotations

import json

import numpy as np
import pytest
from ensemble_members import LABELS, TEXTS, ensemble, knowing, llm, says, words
from sklearn.base import clone, is_classifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from skllm_calib import CalibratedLLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.exceptions import OffLabelWarning
from skllm_calib.operations.report.scored_rows import score_rows

# -- the common checks ---------------------------------------------------------------------------


def test_it_is_a_classifier():
    assert is_classifier(ensemble(says(0.5)))


# -- pools ---------------------------------------------------------------------------------------


def test_linear_pool_by_hand():
    clf = ensemble(says(0.2), says(0.8), pooling="linear")
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.5, 0.5]])
    clf.set_params(weights=[3, 1])
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.65, 0.35]])
    np.testing.assert_allclose(clf.predict_log_proba(["a"]), np.log([[0.65, 0.35]]))


def test_log_pool_by_hand():
    clf = ensemble(says(0.2), says(0.5), pooling="log")
    # Odds of spam: the geometric mean of 1/4 and 1.
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[2 / 3, 1 / 3]])
    clf.set_params(weights=[3, 1])
    odds = 0.25**0.75
    np.testing.assert_allclose(clf.predict_proba(["a"])[0, 1], odds / (1 + odds))
    np.testing.assert_allclose(clf.decision_function(["a"]), np.log([odds]))
    assert clf.predict(["a"]).tolist() == ["ham"]


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_a_pool_of_equal_members_is_the_member(pooling):
    member = llm(classes=["a", "b", "c"])
    clf = ensemble(member, clone(member), clone(member), pooling=pooling, weights=[1, 2, 4])
    np.testing.assert_allclose(clf.predict_log_proba(TEXTS), member.predict_log_proba(TEXTS))


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_weights_of_one_and_zero_pick_a_member(counted, pooling):
    left_out = counted()
    clf = ensemble(
        llm(left_out, classes=["ham", "spam"]), says(0.7), pooling=pooling, weights=[0, 5]
    )
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[0.3, 0.7]])
    clf.uncertainty(["a"])
    assert not left_out.asked
    assert clf.member_log_proba(["a"]).shape == (2, 1, 2)
    assert sum(left_out.asked.values()) == 1


@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_no_row_of_the_pool_is_worse_than_its_members_on_average(pooling):
    members = [llm(TestingBackend(seed=s), classes=["a", "b", "c"]) for s in range(4)]
    clf = ensemble(*members, weights=[1, 2, 3, 4], pooling=pooling)
    average = np.tensordot([0.1, 0.2, 0.3, 0.4], clf.member_log_proba(TEXTS), axes=1)
    assert (clf.predict_log_proba(TEXTS) >= average - 1e-12).all()
    assert (clf.predict_log_proba(TEXTS) > average + 0.01).any()


def test_zeros_of_a_forest_are_no_veto():
    X = np.arange(20.0).reshape(-1, 1)
    y = np.repeat([0, 1], 10)
    clf = ensemble(RandomForestClassifier(5, random_state=0), LogisticRegression()).fit(X, y)
    assert (clf.estimators_[0].predict_proba(X) == 0).any()
    assert np.isfinite(clf.predict_log_proba(X)).all()
    assert np.isfinite(clf.set_params(pooling="linear").predict_log_proba(X)).all()


def test_members_as_they_are():
    members = [says(0.2), says(0.9)]
    clf = ensemble(*members, weights=[1, 0])
    scores = clf.member_log_proba(TEXTS)
    assert scores.shape == (2, 60, 2)
    for score, member in zip(scores, members, strict=True):
        np.testing.assert_allclose(score, member.predict_log_proba(TEXTS))


def test_several_jobs_change_nothing():
    clf = ensemble(llm(), llm(TestingBackend(seed=1)), words()).fit(TEXTS, LABELS)
    expected = clf.predict_proba(TEXTS)
    again = clone(clf).set_params(n_jobs=2).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), expected)


def test_a_row_does_not_depend_on_the_others():
    clf = ensemble(*(llm(TestingBackend(seed=s), classes=list("abcde")) for s in range(5)))
    one_by_one = np.vstack([clf.predict_proba([text]) for text in TEXTS])
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), one_by_one)


# -- uncertainty ---------------------------------------------------------------------------------


def test_members_that_agree_have_no_epistemic_uncertainty():
    split = ensemble(says(0.3), says(0.3)).uncertainty(TEXTS)
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    np.testing.assert_allclose(split["total"], entropy)
    np.testing.assert_allclose(split["aleatoric"], entropy)
    np.testing.assert_allclose(split["epistemic"], 0, atol=1e-15)
    drawn = ensemble(*[llm(classes=list("abcdefg"))] * 3).uncertainty(TEXTS)
    np.testing.assert_allclose(drawn["epistemic"], 0, atol=1e-14)
    assert (drawn["epistemic"] >= 0).all()  # not even by rounding below


def test_members_that_disagree():
    far = ensemble(says(0.001), says(0.999)).uncertainty(["a"])
    near = ensemble(says(0.4), says(0.6)).uncertainty(["a"])
    # Both pools say one half; only their members tell the difference.
    assert far["total"] == pytest.approx(np.log(2))
    assert near["total"] == pytest.approx(np.log(2))
    assert far["epistemic"] > 0.98 * np.log(2)
    assert 0.01 < near["epistemic"] < 0.03


@pytest.mark.parametrize("weights", [None, [1, 2, 0, 5]])
@pytest.mark.parametrize("pooling", ["log", "linear"])
def test_the_split(pooling, weights):
    members = [llm(TestingBackend(seed=s), classes=["a", "b", "c"]) for s in range(4)]
    clf = ensemble(*members, weights=weights, pooling=pooling)
    split = clf.uncertainty(TEXTS)
    np.testing.assert_allclose(split["total"], split["aleatoric"] + split["epistemic"])
    # The mutual information, by its other definition: the mean divergence from the mixture.
    share = np.ones(4) / 4 if weights is None else np.array(weights) / 8
    proba = np.exp(clf.member_log_proba(TEXTS))
    mixture = np.tensordot(share, proba, axes=1)
    divergence = (proba * np.log(proba / mixture)).sum(axis=2)
    np.testing.assert_allclose(split["epistemic"], share @ divergence, atol=1e-14)
    assert (split["epistemic"] >= 0).all()
    assert (split["epistemic"] > 0.01).any()


# -- records -------------------------------------------------------------------------------------


def test_explain():
    members = [llm(classes=["ham", "spam"]), words(), CalibratedLLMClassifier(says(0.7))]
    clf = ensemble(*members, weights=[2, 1, 1]).fit(TEXTS, LABELS)
    records, proba = clf.explain(TEXTS), clf.predict_proba(TEXTS)
    split = clf.uncertainty(TEXTS)
    for i, record in enumerate(records):
        assert record["label"] == clf.classes_[proba[i].argmax()]
        assert record["probability"] == pytest.approx(proba[i].max())
        assert record["log_proba"]["spam"] == pytest.approx(np.log(proba[i, 1]))
        assert record["uncertainty"] == pytest.approx({k: v[i] for k, v in split.items()})
        assert record["failure"] is None
        assert list(record["members"]) == ["m0", "m1", "m2"]
    own = clf.estimators_[0].explain(TEXTS)
    assert [record["members"]["m0"] for record in records] == own
    foreign = clf.estimators_[1].predict_proba(TEXTS)
    assert records[3]["members"]["m1"]["probability"] == pytest.approx(foreign[3].max())
    assert not hasattr(ensemble(words()), "explain")


def test_ensembles_of_ensembles():
    inner = ensemble(says(0.2), says(0.5))
    clf = ensemble(inner, says(1 / 3), pooling="linear")
    np.testing.assert_allclose(clf.predict_proba(["a"]), [[2 / 3, 1 / 3]])
    assert clf.explain(["a"])[0]["members"]["m0"]["members"]["m1"]["probability"] == 0.5


# -- together with others ------------------------------------------------------------------------


def test_pool_first_then_calibrate(counted, tmp_path):
    one, two = counted(), counted(seed=1)
    cache = str(tmp_path / "replies.sqlite")
    clf = CalibratedLLMClassifier(
        ensemble(llm(one, cache=cache), llm(two, cache=cache)), method="temperature"
    ).fit(TEXTS, LABELS)
    for backend in (one, two):
        assert set(backend.asked.values()) == {1}
    card = clf.calibration_card_
    assert card["scores"] == "computed once"
    assert card["estimator"] == "LLMEnsembleClassifier"
    assert card["model_as_served"] == f"testing-{one.name}, testing-{two.name}"
    assert "held out" in str(card)
    assert json.loads(card.to_json()) == dict(card)
    raw = clf.estimator_.predict_proba(TEXTS)
    assert log_loss(LABELS, clf.predict_proba(TEXTS)) < log_loss(LABELS, raw)
    record = clf.explain(TEXTS)[0]
    assert record["calibrated"]["ham"] == pytest.approx(clf.predict_proba(TEXTS)[0, 0])
    clf.save(tmp_path / "model")
    again = CalibratedLLMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_calibrating_what_learns_is_cross_fitted():
    clf = CalibratedLLMClassifier(
        ensemble(says(0.2), says(0.7), weights="fit"), method="temperature"
    ).fit(TEXTS, LABELS)
    assert clf.calibration_card_["scores"] == "cross-fitted in 5 folds"


def test_fingerprint():
    clf = ensemble(llm(), words(), pooling="linear", weights=[3, 1]).fit(TEXTS, LABELS)
    assert clf.fingerprint_ == {
        "members": {"m0": clf.estimators_[0].fingerprint_, "m1": {"estimator": "Pipeline"}},
        "pooling": "linear",
        "weights": [0.75, 0.25],
    }
    assert json.loads(json.dumps(clf.fingerprint_)) == clf.fingerprint_


def test_prepared_members_ask_nothing_until_they_are_scored(counted):
    one, two, off = (counted(seed=i) for i in range(3))
    members = [llm(backend, classes=["ham", "spam"]) for backend in (one, two, off)]
    clf = ensemble(*members, weights=[1, 1, 0])
    assert clf.prepare_rows(TEXTS).fingerprint is None
    prepared = clf.fit(TEXTS, LABELS).prepare_rows(TEXTS)
    assert prepared.fingerprint == clf.fingerprint_
    assert not one.asked
    # Members of weight zero are asked by explain only, and change no probability.
    both = f"testing-{one.name}, testing-{two.name}"
    assert prepared.score().served_model == both
    assert not off.asked
    assert prepared.explain().served_model == both
    assert off.asked
    unknown = ensemble(words()).fit(TEXTS, LABELS).prepare_rows(TEXTS)
    assert unknown.score().served_model is None


def test_soft_voting_is_the_linear_pool():
    members = [("a", llm(classes=["ham", "spam"])), ("b", knowing(0.8, 0)), ("c", words())]
    voting = VotingClassifier(members, voting="soft", weights=[1, 2, 3]).fit(TEXTS, LABELS)
    ours = LLMEnsembleClassifier(members, pooling="linear", weights=[1, 2, 3]).fit(TEXTS, LABELS)
    np.testing.assert_allclose(voting.predict_proba(TEXTS), ours.predict_proba(TEXTS))
    assert voting.predict(TEXTS).tolist() == ours.predict(TEXTS).tolist()


def test_stacking_and_cross_val_predict():
    members = [("a", llm(classes=["ham", "spam"])), ("b", knowing(0.9, 0))]
    stacking = StackingClassifier(members, cv=3).fit(TEXTS, LABELS)
    assert stacking.score(TEXTS, LABELS) > 0.8
    clf = LLMEnsembleClassifier(members)
    proba = cross_val_predict(clf, TEXTS, LABELS, cv=3, method="predict_proba")
    np.testing.assert_allclose(proba, clf.predict_proba(TEXTS))
    nested = StackingClassifier([("e", clf), ("b", knowing(0.9, 1))], cv=3).fit(TEXTS, LABELS)
    assert nested.score(TEXTS, LABELS) > 0.8


def mostly_off(share, **options):
    backend = TestingBackend({"": {"ham": 0.5, "spam": 0.5}}, off_label=share)
    return llm(backend, classes=["ham", "spam"], max_off_label=1.0, **options)


def test_the_share_on_no_label_is_the_mean_of_the_members_that_know_it():
    clf = ensemble(mostly_off(0.2), mostly_off(0.6), words(), weights=[3, 1, 4])
    calibrated = CalibratedLLMClassifier(clf, method="temperature").fit(TEXTS, LABELS)
    share = calibrated.calibration_card_["off_label"]
    assert share["mean"] == pytest.approx(0.3)
    assert share["most"] == pytest.approx(0.3)
    records = calibrated.explain(TEXTS[:2])
    assert [record["off_label"] for record in records] == pytest.approx([0.3, 0.3])
    assert score_rows(calibrated, TEXTS).usage.off_label == pytest.approx(0.3)


def test_an_ensemble_warns_where_most_of_the_evidence_is_on_no_label():
    clf = ensemble(mostly_off(0.9), says(0.6)).fit(TEXTS, LABELS)
    with pytest.warns(OffLabelWarning, match="90%"):
        clf.predict_proba(TEXTS[:5])


def test_members_that_know_no_share_have_none():
    clf = ensemble(words(), words()).fit(TEXTS, LABELS)
    assert clf.prepare_rows(TEXTS).score().off_label is None
