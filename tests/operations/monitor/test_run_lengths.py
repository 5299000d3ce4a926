"""The promise: calm streams raise alarms no more often than said, and drifts are found."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.operations.monitor import CalibrationMonitor
from skllm_calib.operations.monitor._detectors import Cusum, EDetector, residual_bets
from skllm_calib.operations.monitor._drift import ConfidenceDrift, LabelDrift, uniform_draws
from skllm_calib.operations.monitor._run_length import average_run_length, cusum_thresholds


def run_lengths(confidence, weight, right, allowance, thresholds, n_streams, rng):
    """Simulate both sums at once, without the code under test; return mean and standard error."""
    sums, lengths = np.zeros((2, n_streams)), np.zeros(n_streams)
    alive = np.ones(n_streams, dtype=bool)
    while alive.any():
        row = rng.integers(confidence.size, size=n_streams)
        residual = confidence[row] - (rng.random(n_streams) < right[row])
        sums += weight[row] * (np.stack([residual, -residual]) - allowance)
        sums = np.maximum(sums, 0)
        lengths += alive
        alive &= (sums <= np.array(thresholds)[:, None]).all(axis=0)
    return lengths.mean(), lengths.std() / np.sqrt(n_streams)


RNG = np.random.default_rng(0)
CONFIDENCES = {
    "spread out": 0.5 + 0.5 * RNG.beta(1.75, 0.75, 500),
    "all the same": np.full(50, 0.9),
    "nearly sure": 0.5 + 0.5 * RNG.beta(2.7, 0.3, 500),
}


@pytest.mark.parametrize("name", CONFIDENCES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_thresholds_of_the_cusum_give_the_run_length_asked_for(name, weighted):
    confidence = CONFIDENCES[name]
    weight = np.where(np.arange(confidence.size) % 5 == 0, 4.0, 1.0) if weighted else None
    weight = np.ones(confidence.size) if weight is None else weight
    thresholds = cusum_thresholds(confidence, weight, allowance=0.03, tolerance=0.0, run_length=300)
    mean, error = run_lengths(
        confidence, weight, confidence, 0.03, thresholds, 1500, np.random.default_rng(1)
    )
    assert abs(mean - 300) < 4 * error + 6  # 2 % for the grid


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gap_within_the_tolerance_keeps_the_promise_of_the_cusum(sign):
    confidence = CONFIDENCES["spread out"]
    weight = np.ones(confidence.size)
    thresholds = cusum_thresholds(
        confidence, weight, allowance=0.035, tolerance=0.02, run_length=300
    )
    right = np.clip(confidence - sign * 0.02, 0, 1)
    mean, error = run_lengths(
        confidence, weight, right, 0.035, thresholds, 1000, np.random.default_rng(2)
    )
    # Each side has half of the false alarms, and the other one hardly any in such a stream.
    assert 300 - 4 * error < mean < 600 + 4 * error


def test_the_run_length_by_hand():
    # One step up crosses at once: a geometric time. Two needed in a row: 6 flips on average.
    steps, chance = np.array([1.0, -1.0]), np.array([0.5, 0.5])
    assert average_run_length(0.9, steps, chance) == pytest.approx(2, rel=0.02)
    assert average_run_length(1.5, steps, chance, n_nodes=400) == pytest.approx(6, rel=0.02)
    assert average_run_length(1.0, np.array([-1.0]), np.array([1.0])) == np.inf


def test_sure_and_never_wrong_rows_have_a_threshold_that_the_first_error_exceeds():
    monitor = CalibrationMonitor(detectors=["cusum"], tolerance=0.0)
    monitor.fit(None, np.ones(50), classes=["no", "yes"])
    assert monitor.update(["yes"] * 500, np.ones(500)) == []
    assert [alarm.kind for alarm in monitor.update(["no"], [1.0])] == ["cusum"]


def test_the_class_follows_the_definition_of_the_cusum():
    rng = np.random.default_rng(3)
    cusum, upper, lower = Cusum(0.02, (50.0, 50.0), 1), 0.0, 0.0
    for row in range(200):
        residual, weight = rng.uniform(-1, 1), rng.uniform(1, 3)
        upper = max(0.0, upper + weight * (residual - 0.02))
        lower = max(0.0, lower + weight * (-residual - 0.02))
        cusum.step(residual, weight, [row])
        assert cusum.statistic == pytest.approx(max(upper, lower))


def test_the_e_detector_sums_the_products_from_every_possible_start():
    rng = np.random.default_rng(4)
    factors = rng.uniform(0.5, 1.6, (30, 3))
    detector = EDetector(3, 1e9, 1)
    for row in range(30):
        detector.step(factors[row], [row])
    starts = np.array([factors[start:].prod(axis=0) for start in range(30)])
    assert detector.statistic == pytest.approx(starts.sum(axis=0).mean())
    assert detector.mark == [starts[:, detector.leader].argmax()]


@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.25])
def test_bets_are_fair_and_never_ruinous(tolerance):
    # The worst streams that are calm: a residual of 1 or -1 with the mean at the tolerance.
    for weight in (0.5, 4.0):
        up, down = (
            residual_bets(r, weight, tolerance=tolerance, max_weight=4.0) for r in (1.0, -1.0)
        )
        assert (np.minimum(up, down) >= -1e-12).all()
        chance = (1 + tolerance) / 2
        assert (chance * up + (1 - chance) * down)[:4] == pytest.approx(1)
        assert ((1 - chance) * up + chance * down)[4:] == pytest.approx(1)


def lengths_of(monitor, stream, n_streams, limit):
    """Labels until the alarm of each of many streams, cut off at a limit."""
    found = []
    for _ in range(n_streams):
        before = monitor.n_labels_
        raised = monitor.reset().update(*stream(limit))
        found.append((raised[0].n_labels if raised else monitor.n_labels_) - before)
    return np.array(found)


def two_groups(rng, weighted):
    """Too modest at .6 and too sure at .9, right on average; one in four of the former labelled."""

    def stream(n_rows):
        sure = rng.random(n_rows) < 0.5
        p = np.where(sure, 0.9, 0.6)
        y = (rng.random(n_rows) < np.where(sure, 0.8, 0.7)).astype(object)
        y[~sure & (rng.random(n_rows) > 0.25)] = None
        return y, p, np.where(sure, 1.0, 4.0) if weighted else None

    return stream


def test_a_weighted_sample_keeps_the_promise_and_an_unweighted_one_is_misled():
    monitor = CalibrationMonitor(
        detectors=["e_detector"], average_run_length=60, tolerance=0.0, max_weight=4
    ).fit(None, [0.6, 0.9], classes=[False, True])
    weighted = lengths_of(monitor, two_groups(np.random.default_rng(5), True), 120, 400)
    assert weighted.mean() > 60 - 4 * weighted.std() / np.sqrt(120)
    patient = CalibrationMonitor(
        detectors=["e_detector"], average_run_length=1e6, tolerance=0.0, max_weight=4
    ).fit(None, [0.6, 0.9], classes=[False, True])
    for use_weights in (True, False):
        stream = two_groups(np.random.default_rng(6), use_weights)
        assert bool(patient.reset().update(*stream(8000))) is not use_weights


def test_calm_streams_keep_the_promise_of_the_e_detector_closely():
    rng = np.random.default_rng(7)
    monitor = CalibrationMonitor(
        detectors=["e_detector"], average_run_length=100, tolerance=0.0
    ).fit(None, [0.5, 0.9], classes=[False, True])

    def stream(n_rows):
        p = rng.uniform(0.5, 1, n_rows)
        return rng.random(n_rows) < p, p

    lengths = lengths_of(monitor, stream, 150, 500)
    error = lengths.std() / np.sqrt(150)
    assert 100 - 4 * error < lengths.mean() < 200  # proven, and not by doing nothing


def test_ranks_are_uniform_and_independent_for_a_small_reference():
    rng = np.random.default_rng(8)
    ranks = []
    for seed in range(150):
        reference = np.round(rng.random(25), 1) if seed % 2 else rng.random(25)
        drift = ConfidenceDrift.from_reference(reference, np.ones(25), 1e9)
        draws = uniform_draws(seed, 0, 0, 60)
        rows = np.round(rng.random(60), 1) if seed % 2 else rng.random(60)  # with ties, and without
        ranks.append([drift.rank(float(c), float(u)) for c, u in zip(rows, draws, strict=True)])
    ranks = np.array(ranks)
    n = ranks.size
    assert abs(ranks.mean() - 0.5) < 4 * np.sqrt(1 / 12 / n)
    counts = np.histogram(ranks, 10, (0, 1))[0]
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 30  # chi-square, 9 degrees of freedom
    together = ((ranks[:, :-1] - 0.5) * (ranks[:, 1:] - 0.5)).mean()
    assert abs(together) < 4 / 12 / np.sqrt(n)


@pytest.mark.parametrize("kind", ["confidences", "predicted_labels"])
def test_calm_rows_keep_the_promise_for_a_small_reference(kind):
    rng, lengths = np.random.default_rng(9), []
    for seed in range(200):
        if kind == "confidences":
            drift = ConfidenceDrift.from_reference(rng.random(20), np.ones(20), 100)
            rows = [(c, [0, 0.0]) for c in rng.random(500)]
        else:
            labels = rng.choice(3, 520, p=[0.6, 0.3, 0.1])
            drift = LabelDrift.from_reference(labels[:20], np.ones(20), 3, 100)
            rows = [(int(k), 0, np.zeros(3)) for k in labels[20:]]
        draws = uniform_draws(seed, drift.stream, 0, 500).tolist()
        stops = (n for n, (x, *rest) in enumerate(rows) if drift.step(x, draws[n], *rest))
        lengths.append(next(stops, 499) + 1)
    error = np.std(lengths) / np.sqrt(200)
    assert 100 - 4 * error < np.mean(lengths) < 200


def test_the_draws_of_a_row_depend_on_its_number_alone():
    whole = uniform_draws(7, 1, 0, 50)
    parts = [uniform_draws(7, 1, start, 10) for start in range(0, 50, 10)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, uniform_draws(7, 0, 0, 50))
    assert not np.array_equal(whole, uniform_draws(8, 1, 0, 50))
    assert 0 <= whole.min() < whole.max() < 1
