import numpy as np
import pytest

from skllm_calib.display import ReliabilityDisplay, _smooth
from skllm_calib.display._smooth import smooth_curve_of
from skllm_calib.metrics.binning import Judged


def judged(confidence, hit, weight=None):
    confidence = np.asarray(confidence, dtype=float)
    weight = np.ones(confidence.size) if weight is None else np.asarray(weight, dtype=float)
    return Judged(confidence, np.asarray(hit, dtype=float), weight)


def coverage(truth, n_rows, n_draws):
    """Share of rows at whose confidence the band holds the true accuracy."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(n_draws):
        p = rng.uniform(0.4, 1, n_rows)
        curve = smooth_curve_of(judged(p, rng.random(n_rows) < truth(p)))
        seen = ~np.isnan(curve.accuracy)
        there = truth(curve.confidence[seen])
        inside.append(np.mean((curve.low[seen] <= there) & (there <= curve.high[seen])))
    return np.mean(inside)


@pytest.mark.parametrize("truth", [lambda p: p, lambda p: 0.3 + 0.5 * p], ids=["exact", "too sure"])
def test_the_band_holds_the_truth_where_promised(truth):
    # The band is one random thing a draw: 20 draws at .95 have a standard error below .05.
    assert coverage(truth, 400, 20) > 0.85


def test_the_curve_finds_a_known_shape():
    n_rows = 20_000
    p = (np.arange(n_rows) + 0.5) / n_rows
    truth = 0.5 + 0.4 * np.sin(np.pi * (p - 0.5))
    hit = np.random.default_rng(0).random(n_rows) < truth
    curve = smooth_curve_of(judged(p, hit))
    np.testing.assert_allclose(
        curve.accuracy, 0.5 + 0.4 * np.sin(np.pi * (curve.confidence - 0.5)), atol=0.05
    )
    assert 0.01 <= curve.bandwidth < 0.5


def test_a_row_of_weight_two_acts_as_two_rows(monkeypatch):
    # A twin left behind tells what its row is, so the choice of the bandwidth may differ.
    monkeypatch.setattr(_smooth, "_BANDWIDTHS", np.array([0.1]))
    rng = np.random.default_rng(0)
    p = rng.random(200)
    hit = rng.random(200) < p
    twice = rng.random(200) < 0.5
    index = np.repeat(np.arange(200), 1 + twice)
    weighted = smooth_curve_of(judged(p, hit, 1 + twice))
    repeated = smooth_curve_of(judged(p[index], hit[index]))
    both = ~np.isnan(weighted.accuracy) & ~np.isnan(repeated.accuracy)
    assert both.sum() > 150
    np.testing.assert_allclose(weighted.accuracy[both], repeated.accuracy[both], atol=1e-9)


def test_it_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    p, weight = rng.random(100), rng.random(100)
    hit = rng.random(100) < p
    order = rng.permutation(100)
    one, other = (
        smooth_curve_of(judged(p[rows], hit[rows], weight[rows]))
        for rows in (np.arange(100), order)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("p", [[0.7] * 10, [0.0, 1.0] * 10, [1.0] * 50, [0.9] * 10 + [0.2] * 10])
def test_few_values(p):
    curve = smooth_curve_of(judged(p, np.ones(len(p))))
    seen = ~np.isnan(curve.accuracy)
    assert seen.any()
    assert np.all(curve.low[seen] <= curve.accuracy[seen])
    assert np.all(curve.accuracy[seen] <= curve.high[seen])
    assert np.all((curve.low[seen] >= 0) & (curve.high[seen] <= 1))


def test_nothing_is_drawn_far_from_the_rows():
    p = np.r_[np.full(100, 0.2), np.full(100, 0.9)]
    hit = np.r_[np.arange(100) < 60, np.arange(100) < 30]  # no line fits both
    curve = smooth_curve_of(judged(p, hit))
    seen = ~np.isnan(curve.accuracy)
    assert not seen[curve.confidence < 0.19].any()
    near = curve.accuracy[seen & (curve.confidence < 0.21)]
    np.testing.assert_allclose(near, 0.6, atol=0.05)


@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_nothing_is_drawn_of_fewer_than_ten_rows(n_rows):
    p = np.linspace(0.6, 0.9, n_rows)
    display = ReliabilityDisplay.from_predictions(np.ones(n_rows), p, labels=[0, 1], smooth=True)
    assert np.isnan(display.smooth_curve.accuracy).all()
    display.figure_.canvas.draw()


def test_no_row_wrong_is_no_certainty():
    curve = smooth_curve_of(judged(np.full(50, 0.9), np.ones(50)))
    seen = ~np.isnan(curve.accuracy)
    assert np.all(curve.low[seen] < 0.95)


def test_in_the_display(data):
    y, proba = data
    display = ReliabilityDisplay.from_predictions(y, proba, smooth=True)
    assert display.line_.get_linestyle() == "None"
    np.testing.assert_array_equal(display.smooth_line_.get_ydata(), display.smooth_curve.accuracy)
    second = ReliabilityDisplay.from_predictions(y, proba, smooth=True, ax=display.ax_)
    assert second.smooth_line_.get_linestyle() != display.smooth_line_.get_linestyle()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert sum("bootstrap band" in text for text in texts) == 1
    display.figure_.canvas.draw()
    plain = ReliabilityDisplay.from_predictions(y, proba)
    assert plain.smooth_line_ is plain.smooth_band_ is plain.smooth_curve is None
