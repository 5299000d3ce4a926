"""The automatic choice: its rule, its folds, its results."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skllm_calib.calibration.calibrators.auto import (
    _members,
    _stack,
    _takes_few_values,
    merge_copies,
    prior_rows,
)
from skllm_calib.calibrators import AutoCalibrator, BetaCalibration, TemperatureScaling
from skllm_calib.log_proba.folds import deal_folds, n_parts
from skllm_calib.log_proba.numerics import floor_and_normalise


def simulate(n_rows, n_classes=4, bias=None, temperature=3.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n_rows, n_classes))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    shift = np.zeros(n_classes) if bias is None else np.asarray(bias)
    return log_softmax((logits - shift) * temperature, axis=1), codes


def test_few_rows_are_not_compared():
    calibrator = AutoCalibrator().fit(*simulate(19))
    assert calibrator.weights_ == {"vector": 1.0}
    assert calibrator.scores_ == {}
    assert calibrator.calibrators_["vector"].bias_scale == 0.1


def test_copies_of_one_row_are_not_compared():
    with pytest.warns(UserWarning, match="Add rows of every class"):
        calibrator = AutoCalibrator().fit([[-0.1, -2.4]] * 50, [0] * 50, classes=[0, 1])
    assert calibrator.weights_ == {"vector": 1.0}
    assert np.isnan(calibrator.expected_ece_)


def test_the_mean_of_its_members():
    log_proba, codes = simulate(200, bias=[1.5, -1.5, 0, 0])
    calibrator = AutoCalibrator().fit(log_proba, codes)
    assert list(calibrator.weights_) == [
        "temperature",
        "vector",
        "matrix",
        "beta",
        "platt",
        "discrete",
    ]
    assert sum(calibrator.weights_.values()) == pytest.approx(1.0)
    mean = sum(
        weight * calibrator.calibrators_[name].predict_log_proba(log_proba)
        for name, weight in calibrator.weights_.items()
    )
    np.testing.assert_allclose(calibrator.predict_proba(log_proba), softmax(mean, axis=1))
    for member in calibrator.calibrators_.values():
        alone = clone(member).fit(log_proba, codes)
        np.testing.assert_allclose(
            alone.predict_proba(log_proba), member.predict_proba(log_proba), rtol=1e-6
        )


def test_weighs_what_the_data_support():
    flat = AutoCalibrator().fit(*simulate(100, temperature=0.1))
    assert flat.weights_["temperature"] > 0.1
    biased = AutoCalibrator().fit(*simulate(500, bias=[1.5, -1.5, 0, 0]))
    assert biased.weights_["temperature"] + biased.weights_["discrete"] < 0.2
    assert biased.scores_["vector"]["log_loss"] < biased.scores_["temperature"]["log_loss"] - 0.1
    assert biased.chosen_ == max(biased.weights_, key=biased.weights_.get)


def test_tells_scores_of_members_and_of_their_mean():
    log_proba, codes = simulate(150, bias=[1.5, -1.5, 0, 0])
    scores = AutoCalibrator().fit(log_proba, codes).scores_
    members = ["temperature", "vector", "matrix", "beta", "platt", "discrete"]
    assert list(scores) == [*members, "mean"]
    best = min((name for name in scores if name != "mean"), key=lambda n: scores[n]["log_loss"])
    assert scores[best]["standard_error"] == 0.0
    assert scores["temperature"]["standard_error"] > 0.0
    # No mean of distributions is worse than the average of its members (Jensen).
    assert scores["mean"]["log_loss"] < np.mean([scores[n]["log_loss"] for n in scores][:-1])


def test_scores_are_those_of_cross_validation():
    log_proba, codes = simulate(60)
    auto = AutoCalibrator().fit(log_proba, codes)
    log_proba, codes, weight = merge_copies(floor_and_normalise(log_proba), codes, np.ones(60))
    part, fold = deal_folds(codes, 5, 0, n_parts(weight, 5))
    loss = np.empty(60)
    for number in range(5):
        out = fold == number
        member = clone(auto.calibrators_["temperature"]).fit(
            log_proba[part][~out], codes[part][~out], classes=range(4)
        )
        rows = np.arange(out.sum()), codes[part][out]
        loss[out] = -member.predict_log_proba(log_proba[part][out])[rows]
    assert auto.scores_["temperature"]["log_loss"] == pytest.approx(loss.mean(), rel=1e-9)


def test_weights_are_the_best_there_are():
    """Against a search of the same penalised likelihood without derivatives."""
    rng = np.random.default_rng(0)
    scores, codes = simulate(80, n_classes=3, temperature=1.0)
    held_out = np.stack([log_softmax(scores * factor, axis=1) for factor in (0.2, 1.0, 3.0)])
    weight = rng.uniform(0.5, 3.0, size=80)
    prior = np.array([0.5, 1.0, 4.0])
    found = _stack(held_out, codes, weight, prior)

    def loss(free):
        w = softmax(np.append(free, 0.0))
        pooled = log_softmax(np.tensordot(w, held_out, axes=1), axis=1)
        return -(weight @ pooled[np.arange(80), codes] + prior @ np.log(w))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9})
    assert found.sum() == pytest.approx(1.0)
    assert loss(np.log(found[:2] / found[2])) == pytest.approx(best.fun, abs=1e-6)


def test_without_evidence_the_weights_are_those_of_the_prior():
    same = np.log(np.full((4, 9, 2), 0.5))
    prior = np.array([1.0, 2.0, 3.0, 4.0])
    found = _stack(same, np.zeros(9, int), np.ones(9), prior)
    np.testing.assert_allclose(found, prior / 10, atol=1e-6)
    right = np.log([0.9, 0.1])
    wrong = np.log([1e-9, 1 - 1e-9])
    members = np.tile([[right], [wrong]], (1, 500, 1))
    ruled_out = _stack(members, np.zeros(500, int), np.ones(500), np.ones(2))
    assert 0 < ruled_out[1] < 0.02


def test_the_prior_is_a_power_of_rows_and_classes_within_what_was_seen():
    names = ["temperature", "matrix"]

    def prior(n_rows, n_classes):
        return prior_rows(names, n_rows, n_classes, few_values=False)

    assert (prior(200, 4) > 0).all()
    np.testing.assert_allclose(prior(100, 8) / prior(200, 4), prior(50, 16) / prior(100, 8))
    np.testing.assert_array_equal(prior(1e6, 1000), prior(1000, 77))


def test_a_table_is_worth_more_where_scores_take_few_values():
    names = ["discrete", "beta"]
    few, many = (prior_rows(names, 200, 4, few_values=few) for few in (True, False))
    assert few[0] / many[0] > 1.5 * few[1] / many[1]
    weight = np.ones(20)
    stated = np.log([[0.9, 0.1], [0.8, 0.2]] * 10)
    assert _takes_few_values(stated, weight)
    assert not _takes_few_values(simulate(20)[0], weight)


def test_sure_scores_are_expected_to_be_too_sure():
    """A temperature before any label: even scores need none, saturated ones a high one."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 3))
    found = [
        AutoCalibrator().fit(scores * size, np.arange(10) % 3).calibrators_["vector"]
        for size in (1, 30)
    ]
    assert found[0].prior_temperature < 1.5
    assert found[1].prior_temperature > 5


def test_isotonic_for_a_curve_that_is_no_line():
    rng = np.random.default_rng(0)
    odds = rng.normal(scale=3, size=6000)
    y = rng.uniform(size=6000) < np.where(odds < 0, 0.1, np.where(odds < 2, 0.4, 0.95))
    calibrator = AutoCalibrator().fit(np.stack([np.zeros(6000), odds], axis=1), y)
    assert calibrator.chosen_ in ("isotonic", "discrete")
    assert calibrator.weights_["isotonic"] + calibrator.weights_["discrete"] > 0.8


@pytest.mark.parametrize(
    ("n_rows", "n_classes", "absent"),
    [
        (47, 4, {"beta", "platt"}),
        (48, 4, set()),
        (360, 30, set()),
        (372, 31, {"vector"}),
        (500, 100, {"vector", "beta", "platt"}),
        (500, 101, {"matrix", "beta", "platt"}),
    ],
)
def test_members_that_the_rows_cannot_support_are_left_out(n_rows, n_classes, absent):
    members = ["temperature", "vector", "matrix", "beta", "platt", "discrete"]
    found = list(_members(n_rows, n_classes))
    assert found == [name for name in members if name not in absent]
    assert list(_members(5000, 2)) == [*members, "isotonic"]


def test_a_member_of_too_many_parameters_does_no_harm():
    """Twenty classes, two hundred rows: one curve a class would cost .15 nats."""
    test, test_codes = simulate(4000, n_classes=20, seed=99)
    rows = np.arange(4000), test_codes
    loss = {AutoCalibrator: [], TemperatureScaling: []}
    for seed in range(3):
        data = simulate(200, n_classes=20, seed=seed)
        for kind, losses in loss.items():
            calibrator = kind().fit(*data, classes=range(20))
            losses.append(-calibrator.predict_log_proba(test)[rows].mean())
    assert np.mean(loss[AutoCalibrator]) < np.mean(loss[TemperatureScaling]) + 0.015


def test_bounds_of_lesser_members_are_not_told():
    log_proba, codes = simulate(200, n_classes=2)
    with pytest.warns(ConvergenceWarning, match="slope"):
        BetaCalibration().fit(log_proba, 1 - codes)  # the labels are the wrong way round
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.filterwarnings("ignore", "temperature_", ConvergenceWarning)
        assert AutoCalibrator().fit(log_proba, 1 - codes).weights_["beta"] > 0


def test_expected_error_is_that_of_a_share():
    """Simulated: the mean error of an accuracy estimated from n rows."""
    log_proba, codes = simulate(400)
    calibrator = AutoCalibrator().fit(log_proba, codes)
    right = (calibrator.predict(log_proba) == codes).mean()
    seen = np.random.default_rng(0).binomial(400, right, size=20_000) / 400
    assert calibrator.expected_ece_ == pytest.approx(np.abs(seen - right).mean(), rel=0.02)


def test_parameters_are_plain_numbers_the_heaviest_first():
    calibrator = AutoCalibrator().fit(*simulate(200, bias=[1.5, -1.5, 0, 0]))
    assert next(iter(calibrator.parameters_)) == f"{calibrator.chosen_} weight"
    assert json.loads(json.dumps(calibrator.parameters_)) == calibrator.parameters_


@pytest.mark.parametrize("bias", [None, [1.0, -0.5, 0.0, -0.5]])
@pytest.mark.parametrize("n_rows", [50, 200])
def test_never_much_worse_than_temperature(n_rows, bias):
    test, test_codes = simulate(4000, bias=bias, seed=99)
    rows = np.arange(4000), test_codes
    loss = {AutoCalibrator: [], TemperatureScaling: []}
    for seed in range(5):
        data = simulate(n_rows, bias=bias, seed=seed)
        for kind, losses in loss.items():
            calibrator = kind().fit(*data, classes=range(4))
            losses.append(-calibrator.predict_log_proba(test)[rows].mean())
    assert np.mean(loss[AutoCalibrator]) < np.mean(loss[TemperatureScaling]) + 0.01


@pytest.mark.parametrize("parameters", [{"cv": 1}, {"random_state": None}])
def test_bad_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        AutoCalibrator(**parameters).fit([[0.0, -1.0]], [0], classes=[0, 1])


def test_discrete_scores_are_compared_as_well_as_others():
    """Votes of five draws that say nothing, about classes of which one is rare."""
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 6, size=200)
    proba = (votes + 0.5) / 6
    log_proba = np.log(np.stack([1 - proba, proba], axis=1))
    y = np.where(rng.random(200) < 0.13, 1, 0)
    auto = AutoCalibrator().fit(log_proba, y)
    share = y.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert auto.scores_["vector"]["log_loss"] == pytest.approx(entropy, abs=0.05)
    assert auto.scores_["temperature"]["log_loss"] > 0.6
    assert auto.weights_["temperature"] < 0.1


def test_copies_are_merged_and_their_weights_added():
    log_proba = np.log([[0.3, 0.7], [0.5, 0.5], [0.3, 0.7], [0.3, 0.7]])
    rows, codes, weight = merge_copies(log_proba, np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4.0]))
    np.testing.assert_allclose(np.exp(rows), [[0.3, 0.7], [0.3, 0.7], [0.5, 0.5]])
    assert codes.tolist() == [0, 1, 1]
    assert weight.tolist() == [4.0, 4.0, 2.0]
