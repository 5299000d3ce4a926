from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.evidence.priors import check_prior, estimate_bias, reference_texts
from skllm_calib.exceptions import BackendError
from skllm_calib.log_proba.numerics import log_normalise

LABELS = ["ham", "spam", "news"]
TEXTS = [f"message number {i}" for i in range(60)]


def scores(n=400, k=3, seed=0):
    drawn = np.random.default_rng(seed).normal([2.0, 0.0, -1.0], 2.0, (n, k))
    return log_softmax(drawn, axis=1)


def classifier(prior, **options):
    options.setdefault("classes", LABELS)
    return LLMClassifier(TestingBackend(), prior_correction=prior, cache=None, **options)


# -- the arithmetic --------------------------------------------------------------------------------


def test_the_batch_mean_becomes_even_to_first_order():
    """Batch calibration divides by the mean probability (Zhou et al., equation 3)."""
    rows = scores()
    bias = estimate_bias("batch", rows)
    mean = np.exp(rows).mean(axis=0)
    expected = np.exp(rows) / mean
    corrected = np.exp(log_normalise(rows - bias))
    np.testing.assert_allclose(corrected, expected / expected.sum(axis=1, keepdims=True))
    assert bias.mean() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("prior", [[1 / 3] * 3, [0.7, 0.2, 0.1], [0.001, 0.009, 0.99]])
def test_a_given_prior_is_met_exactly(prior):
    rows = scores()
    bias = estimate_bias(np.array(prior), rows)
    np.testing.assert_allclose(np.exp(log_normalise(rows - bias)).mean(axis=0), prior, atol=1e-8)


def test_a_prior_that_is_met_already_changes_nothing():
    rows = scores()
    bias = estimate_bias(np.exp(rows).mean(axis=0), rows)
    np.testing.assert_allclose(bias, 0.0, atol=1e-8)


def test_rows_that_failed_do_not_count():
    rows = scores()
    holed = np.vstack([rows, np.full((5, 3), np.nan)])
    for prior in ("batch", np.array([0.5, 0.3, 0.2])):
        np.testing.assert_array_equal(estimate_bias(prior, holed), estimate_bias(prior, rows))
    with pytest.raises(ValueError, match="no row could be scored"):
        estimate_bias("batch", np.full((5, 3), np.nan))


def test_texts_of_a_domain():
    texts = ["the cat sat", "a dog ran far away", "  "]
    drawn = reference_texts("domain", texts, 0)
    words = {"the", "cat", "sat", "a", "dog", "ran", "far", "away"}
    assert len(drawn) == 20
    assert all(set(text.split()) <= words and len(text.split()) == 4 for text in drawn)
    assert len(set(drawn)) > 10
    assert reference_texts("domain", texts[::-1], 0) == drawn  # whatever the order
    assert reference_texts("domain", texts, 1) != drawn
    assert reference_texts("domain", ["?!", "..."], 0) == ["N/A", "[MASK]", ""]


def test_texts_without_content_and_the_rows_themselves():
    assert reference_texts("contextual", TEXTS, 0) == ["N/A", "[MASK]", ""]
    assert reference_texts("batch", TEXTS, 0) is None
    assert reference_texts(np.array([0.5, 0.5]), TEXTS, 0) is None


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("averaged", "prior_correction='averaged'.*'contextual', 'domain', 'batch'"),
        ([0.5, 0.5], "one probability for each of the 3 classes"),
        ([0.5, 0.5, 0.0], "greater than 0"),
        ([0.5, 0.5, 0.5], "sum to 1"),
        ([0.5, float("nan"), 0.5], "greater than 0"),
        ({"ham": 0.5, "spam": 0.5}, "no probability for the class 'news'"),
        ({"ham": 0.5, "spam": 0.3, "news": 0.1, "x": 0.1}, "'x', which is not in classes"),
        (3, "must be"),
        (["a", "b", "c"], "must be"),
    ],
)
def test_bad_priors_are_named(bad, match):
    with pytest.raises(ValueError, match=match):
        check_prior(bad, LABELS)
    with pytest.raises(ValueError, match=match):
        classifier(bad).fit(TEXTS)


# -- in the classifier -----------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["contextual", "domain", "batch", [0.2, 0.5, 0.3]])
def test_the_bias_is_learned_in_fit_and_never_from_the_rows_to_predict(prior):
    clf = classifier(prior).fit(TEXTS)
    plain = classifier(None).fit(TEXTS)
    whole = clf.predict_log_proba(TEXTS)
    expected = log_normalise(plain.predict_log_proba(TEXTS) - clf.label_bias_)
    np.testing.assert_allclose(whole, expected)
    np.testing.assert_array_equal(clf.predict_log_proba(TEXTS[7:8]), whole[7:8])
    np.testing.assert_array_equal(clf.predict_log_proba(TEXTS[::-1]), whole[::-1])
    assert not np.allclose(clf.label_bias_, 0)
    np.testing.assert_allclose(np.exp(whole).sum(axis=1), 1.0, atol=1e-12)


def test_a_dict_goes_by_label_whatever_its_order():
    by_label = classifier({"spam": 0.3, "news": 0.5, "ham": 0.2}).fit(TEXTS)
    by_place = classifier([0.2, 0.5, 0.3]).fit(TEXTS)  # ham, news, spam: classes_ is sorted
    np.testing.assert_array_equal(by_label.label_bias_, by_place.label_bias_)
    np.testing.assert_allclose(
        by_label.predict_proba(TEXTS).mean(axis=0), [0.2, 0.5, 0.3], atol=1e-8
    )


def test_it_needs_fit_but_no_labels():
    clf = classifier("contextual")
    with pytest.raises(Exception, match="not fitted"):
        clf.predict(TEXTS)
    assert clf.fit(TEXTS).predict(TEXTS[:2]).shape == (2,)


def test_fitting_again_forgets_the_bias():
    clf = classifier("batch").fit(TEXTS)
    assert clf.fingerprint_["prior_correction"] == "batch"
    clf.set_params(prior_correction=None).fit(TEXTS)
    assert not hasattr(clf, "label_bias_")
    assert "prior_correction" not in clf.fingerprint_


def test_the_reason_shows_in_explain_and_on_the_card():
    clf = classifier([0.2, 0.5, 0.3]).fit(TEXTS)
    (record,) = clf.explain(TEXTS[:1])
    proba = clf.predict_proba(TEXTS[:1])[0]
    assert record["probability"] == pytest.approx(proba.max())
    assert record["label_bias"] == dict(zip(clf.classes_, clf.label_bias_, strict=True))
    calibrated = CalibratedLLMClassifier(clf).fit(TEXTS, [LABELS[i % 3] for i in range(60)])
    assert calibrated.calibration_card_["prior_correction"] == [0.2, 0.5, 0.3]


def test_tables_are_asked_about_without_content_in_every_column():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"title": ["a", "b"], "body": ["c", "d"]})
    clf = classifier("contextual", prompt="{title}: {body} {hint}").fit(table)
    assert clf.predict_proba(table).shape == (2, 3)


def test_rows_that_fail_in_fit():
    backend = TestingBackend(fail_on=("number 7",))
    clf = LLMClassifier(backend, classes=LABELS, prior_correction="batch", cache=None)
    with pytest.raises(BackendError, match="row 7"):
        clf.fit(TEXTS)
    clf.set_params(on_error="nan")
    with pytest.warns(UserWarning, match="1 of 60 rows failed"):
        clf.fit(TEXTS)
    assert np.isfinite(clf.label_bias_).all()
