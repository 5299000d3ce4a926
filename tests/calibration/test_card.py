from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skllm_calib import CalibratedLLMClassifier
from skllm_calib.calibration import CalibrationCard

METRICS = {
    "log_loss": 0.5,
    "brier": 0.25,
    "ece": 0.1,
    "ece_interval": [0.05, 0.15],
    "ece_floor": 0.04,
    "accuracy": 0.8,
}


@pytest.fixture
def card():
    return CalibrationCard(
        {
            "n": 200,
            "classes": [f"class {i}" for i in range(15)],
            "model": "<b>model</b> & more",
            "model_as_served": None,
            "parameters": {"temperature": 1.23456789, "bias": [0.5, -0.5]},
            "held_out": {
                "how": "in <5> folds",
                "confidence": 0.9,
                "before": METRICS | {"log_loss": 0.75},
                "after": METRICS,
            },
        }
    )


def test_prints(card):
    text = str(card)
    assert "n                200" in text
    assert "... (15 in all)" in text
    assert "temperature: 1.235; bias: 0.5, -0.5" in text
    assert "model as served  -" in text
    assert "log-loss     0.750       0.500" in text
    assert "90% interval 0.050 to 0.150, a perfectly calibrated model would show 0.040" in text


def test_html_is_escaped(card):
    html = card._repr_html_()
    assert "<b>model</b>" not in html
    assert "&lt;b&gt;model&lt;/b&gt; &amp; more" in html
    assert "in &lt;5&gt; folds" in html


def test_json_round_trip(card, tmp_path):
    card.save(tmp_path / "card.json")
    again = CalibrationCard.load(tmp_path / "card.json")
    assert dict(again) == dict(card)
    assert json.loads(card.to_json())["n"] == 200
    assert len(card) == len(list(card)) == 6


def test_it_is_read_only_and_may_be_short():
    card = CalibrationCard({"n": 1, "held_out": None})
    with pytest.raises(TypeError):
        card["n"] = 2
    assert str(card) == "Calibration card\n  n  1"
    assert str(CalibrationCard({})) == "Calibration card"


def test_members_of_a_mean_are_a_table():
    found = {"weight": 0.75, "log_loss": 0.5, "standard_error": 0.0}
    other = {"weight": 0.25, "log_loss": 0.625, "standard_error": 0.0125}
    parameters = {f"p{i}": float(i) for i in range(8)}
    card = CalibrationCard({"members": {"vector": found, "beta": other}, "parameters": parameters})
    text = str(card)
    assert "p4: 4; ... (8 in all)" in text
    assert "vector    0.75     0.500\n" in text
    assert "beta      0.25     0.625   difference from the best: standard error 0.013" in text
    assert "vector    0.75" in card._repr_html_()


def test_the_card_of_auto_tells_what_its_members_scored():
    scores = np.random.default_rng(0).normal(size=(60, 2))
    y = (scores[:, 1] > scores[:, 0]).astype(int)
    model = LogisticRegression().fit(scores, y)
    clf = CalibratedLLMClassifier(FrozenEstimator(model)).fit(scores, y)
    card = clf.calibration_card_
    assert card["calibrator"] == f"mean of 6, mostly {clf.calibrator_.chosen_}"
    assert {n: m["weight"] for n, m in card["members"].items()} == clf.calibrator_.weights_
    assert card["expected_ece"] == clf.calibrator_.expected_ece_
    with pytest.warns(UserWarning, match="very few"):
        few = CalibratedLLMClassifier(FrozenEstimator(model)).fit(scores[:19], y[:19])
    assert few.calibration_card_["calibrator"] == "vector"
    assert "members" not in few.calibration_card_
