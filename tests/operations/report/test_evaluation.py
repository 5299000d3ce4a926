"""Probabilities before and after a calibration, and what is said of them."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from skllm_calib.evidence.backends.testing import TestingBackend
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.operations.report.evaluation import prior_log_loss, score, threshold, thresholds


def test_integer_labels_are_put_in_the_order_of_their_texts():
    llm = LLMClassifier(TestingBackend(), classes=[2, 10], cache=None)
    scores = score(llm, ["a", "b"])
    assert scores.labels == ["10", "2"]
    np.testing.assert_allclose(scores.raw[:, ::-1], llm.predict_proba(["a", "b"]))
    np.testing.assert_array_equal(scores.raw, scores.calibrated)


def test_the_yardstick():
    y = ["a", "a", "b"]
    share = np.array([3.5, 1.5, 0.5]) / 5.5
    expected = log_loss(y, np.tile(share, (3, 1)), labels=["a", "b", "c"])
    assert prior_log_loss(y, {"a": 3, "b": 1}, ["a", "b", "c"]) == pytest.approx(expected)


def test_thresholds_say_what_is_the_case():
    rng = np.random.default_rng(0)
    p = np.column_stack([1 - (q := rng.uniform(0.9, 1, 400)), q])
    good = threshold(["b"] * 400, p, ["a", "b"], 0.95)
    few = threshold(["b"] * 40, p[:40], ["a", "b"], 0.95)
    assert "; a few more needed" in thresholds([{**few, "n_more": 0}], 40)
    assert "; about 12,000 more needed" in thresholds([{**few, "n_more": 12_345}], 40)
    bad = threshold(["a"] * 400, p, ["a", "b"], 0.95)
    assert good["threshold"] <= p[:, 1].min()
    shown = thresholds([good, few, bad], 400)
    assert "passes 400 of 400 rows (100%), 0 of them wrong" in shown
    assert "not certifiable with these labels; about 19 more needed" in shown
    assert "the model is wrong too often" in shown
