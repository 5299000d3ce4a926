"""The smooth error against its definition, summed kernel by kernel."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.metrics import expected_calibration_error, smooth_calibration_error

LABELS = ["no", "yes"]


def draw(n, bend=1.0, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, n)
    return np.where(rng.random(n) < p**bend, "yes", "no"), p


def by_definition(hit, p, bandwidth, n_cells=20_000):
    """Integrate the residuals smoothed by a Gaussian whose mirror images reach [0, 1]."""
    at = (np.arange(n_cells) + 0.5) / n_cells
    smooth = np.zeros(n_cells)
    for x, r in zip(p, hit - p, strict=True):
        for shift in range(-4, 5, 2):
            for image in (x, -x):
                smooth += r * np.exp(-0.5 * ((at - image - shift) / bandwidth) ** 2)
    return np.abs(smooth).mean() / (bandwidth * np.sqrt(2 * np.pi)) / len(p)


@pytest.mark.parametrize("bend", [1.0, 1.5, 0.3])
def test_it_is_the_bandwidth_that_equals_its_error(bend):
    y, p = draw(60, bend)
    found = smooth_calibration_error(y, p, kind="yes", labels=LABELS)
    assert by_definition(y == "yes", p, found) == pytest.approx(found, abs=1e-5)


def test_a_constant_gap_is_found():
    y = np.array(["yes"] * 700 + ["no"] * 300)
    p = np.full(1000, 0.9)
    assert smooth_calibration_error(y, p, kind="yes") == pytest.approx(0.2, abs=1e-6)
    assert smooth_calibration_error(y, p) == pytest.approx(0.2, abs=1e-6)


def test_calibrated_probabilities_have_little():
    y, p = draw(200_000)
    assert smooth_calibration_error(y, p) < 0.005
    bent, _ = draw(200_000, bend=1.4)
    assert smooth_calibration_error(bent, p, kind="yes") == pytest.approx(
        expected_calibration_error(bent, p, kind="yes"), abs=0.005
    )


def test_rounding_changes_it_by_as_little():
    y, p = draw(500, bend=1.3)
    whole = smooth_calibration_error(y, p)
    assert smooth_calibration_error(y, p.round(3)) == pytest.approx(whole, abs=1e-3)


def test_no_error_at_all():
    assert smooth_calibration_error(["no", "yes"], [0.0, 1.0]) == 0.0


def test_two_columns_many_classes_and_weights():
    y, p = draw(300, bend=1.3)
    matrix = np.column_stack([1 - p, p])
    assert smooth_calibration_error(y, matrix) == smooth_calibration_error(y, p)
    weight = np.random.default_rng(1).integers(0, 3, 300)
    twice = np.repeat(np.arange(300), weight)
    assert smooth_calibration_error(y, p, sample_weight=weight) == pytest.approx(
        smooth_calibration_error(y[twice], p[twice])
    )
    three = np.column_stack([matrix, np.zeros(300)])
    assert smooth_calibration_error(y, three, labels=["no", "yes", "z"]) == pytest.approx(
        smooth_calibration_error(y, p)
    )
