import numpy as np
import pytest
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from skllm_calib.display import RiskCoverageDisplay
from skllm_calib.metrics import aurc, risk_coverage_curve


def test_the_area_under_the_line_is_the_aurc(data):
    y, proba = data
    proba = proba.round(1) / proba.round(1).sum(1)[:, None]  # ties
    display = RiskCoverageDisplay.from_predictions(y, proba, name="model")
    x, height = display.line_.get_data()
    assert display.line_.get_drawstyle() == "steps-pre"
    assert np.diff(x) @ height[1:] == pytest.approx(aurc(y, proba))
    assert display.random_line_.get_ydata()[0] == pytest.approx(
        np.mean(np.array(["a", "b", "c"])[proba.argmax(1)] != y)
    )
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == f"model\nAURC {aurc(y, proba):.1%}, n = 300"
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_the_interval_is_that_of_the_accepted_rows(data):
    y, proba = data
    display = RiskCoverageDisplay.from_predictions(y, proba, interval="clopper-pearson")
    curve = risk_coverage_curve(y, proba)
    accepted = curve.coverage * 300
    np.testing.assert_allclose(display.n_accepted, accepted)
    errors = curve.risk * accepted
    high = beta.ppf(0.975, errors + 1, accepted - errors)
    heights = display.interval_.get_paths()[0].vertices[:, 1]
    assert np.isin(high[errors < accepted].round(9), heights.round(9)).all()
    display.figure_.canvas.draw()


def test_two_curves_share_the_axes(data):
    y, proba = data
    first = RiskCoverageDisplay.from_predictions(y, proba, name="one")
    second = RiskCoverageDisplay(risk_coverage_curve(y, proba))
    second.plot(first.ax_, name="two", ref_line=False, lw=3)
    assert second.ax_ is first.ax_
    assert second.random_line_ is second.interval_ is None
    assert second.line_.get_linestyle() != first.line_.get_linestyle()
    assert second.line_.get_linewidth() == 3
    with pytest.raises(ValueError, match="n_accepted"):
        second.plot(interval="wilson")


def test_few_thresholds_are_marked(data):
    few = RiskCoverageDisplay.from_predictions([1, 1, 0, 1], [0.9, 0.8, 0.8, 0.9])
    assert few.line_.get_marker() == "o"
    assert few.line_.get_data()[0].tolist() == [0, 0.5, 1]
    many = RiskCoverageDisplay.from_predictions(*data)
    assert many.line_.get_marker() == "none"


def test_the_first_rows_do_not_set_the_scale():
    y = np.r_[0, np.ones(999)].astype(int)
    p = np.linspace(0.999, 0.6, 1000)  # the surest row is the one error
    display = RiskCoverageDisplay.from_predictions(y, p)
    assert display.line_.get_ydata().max() == 1
    assert display.ax_.get_ylim()[1] < 0.1


def test_weights_act_as_rows(data):
    y, proba = data
    weight = np.arange(300) % 3
    weighted = RiskCoverageDisplay.from_predictions(y, proba, sample_weight=weight)
    rows = np.repeat(np.arange(300), weight)
    repeated = RiskCoverageDisplay.from_predictions(y[rows], proba[rows])
    np.testing.assert_allclose(weighted.line_.get_ydata(), repeated.line_.get_ydata())
    assert weighted.area == pytest.approx(repeated.area)
    assert weighted.n_accepted[-1] < repeated.n_accepted[-1]  # unequal weights are noisier


def test_from_estimator(data):
    y, proba = data
    model = LogisticRegression().fit(proba, y)
    display = RiskCoverageDisplay.from_estimator(model, proba, y, interval="wilson")
    assert display.name == "LogisticRegression"
    assert display.area == pytest.approx(aurc(y, model.predict_proba(proba)))


def test_wrong_interval(data):
    with pytest.raises(ValueError, match="interval must be"):
        RiskCoverageDisplay.from_predictions(*data, interval="wald")
