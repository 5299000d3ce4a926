"""What all displays share: keyword arguments of matplotlib, checks before a model is asked."""

import numpy as np
import pandas as pd
import pytest

from skllm_calib.display import (
    CalibrationLearningCurveDisplay,
    ReliabilityDisplay,
    ReviewCostDisplay,
    RiskCoverageDisplay,
    ScoreHistogramDisplay,
)

CURVES = [ReliabilityDisplay, RiskCoverageDisplay, ReviewCostDisplay]


@pytest.mark.parametrize("display", CURVES)
def test_short_and_long_names_of_keyword_arguments_are_one(data, display):
    drawn = display.from_predictions(*data, lw=3, c="black", ls=":")
    assert drawn.line_.get_linewidth() == 3
    assert drawn.line_.get_color() == "black"
    assert drawn.line_.get_linestyle() == ":"
    again = drawn.plot(drawn.ax_, linewidth=5)
    assert again.line_.get_linewidth() == 5
    with pytest.raises(AttributeError, match="colour"):
        display.from_predictions(*data, colour="black")


def test_every_artist_has_its_keyword_arguments(data):
    drawn = ReliabilityDisplay.from_predictions(
        *data,
        error_bars="wilson",
        ref_line_kw={"ls": "--"},
        fill_between_kw={"alpha": 0.5},
        errorbar_kw={"elinewidth": 4},
    )
    diagonal = next(line for line in drawn.ax_.lines if line is not drawn.line_)
    assert diagonal.get_linestyle() == "--"
    assert drawn.band_.get_alpha() == 0.5
    assert drawn.error_bars_.lines[2][0].get_linewidth() == 4
    drawn = RiskCoverageDisplay.from_predictions(
        *data, interval="wilson", ref_line_kw={"color": "red"}, fill_between_kw={"fc": "red"}
    )
    assert drawn.random_line_.get_color() == "red"
    np.testing.assert_allclose(drawn.interval_.get_facecolor()[0][:3], [1, 0, 0])
    drawn = ReviewCostDisplay.from_predictions(*data, ref_line_kw={"linewidth": 4})
    assert drawn.accept_line_.get_linewidth() == drawn.review_line_.get_linewidth() == 4
    drawn = ScoreHistogramDisplay.from_predictions(*data, alpha=0.5, hatch="x")
    assert drawn.right_bars_[0].get_alpha() == drawn.wrong_bars_[0].get_alpha() == 0.5
    assert drawn.right_bars_[0].get_hatch() == "x"


@pytest.mark.parametrize(
    ("display", "options", "message"),
    [
        (ReliabilityDisplay, {"band": 2}, "band"),
        (ReliabilityDisplay, {"error_bars": "wald"}, "error_bars"),
        (RiskCoverageDisplay, {"interval": "wald"}, "interval"),
        (ReviewCostDisplay, {"price": 7}, "price"),
        (ScoreHistogramDisplay, {"bins": 0}, "bins"),
        (ScoreHistogramDisplay, {"stat": "share"}, "stat must be 'count' or 'proportion'"),
        (CalibrationLearningCurveDisplay, {"metric": "mce"}, "metric"),
    ],
)
def test_options_are_checked_before_the_model_is_asked(display, options, message):
    with pytest.raises(ValueError, match=message):
        display.from_estimator(None, None, None, **options)


@pytest.mark.parametrize("display", [*CURVES, ScoreHistogramDisplay])
def test_named_columns_are_taken_by_name(data, display):
    y, proba = data
    shuffled = pd.DataFrame(proba, columns=["a", "b", "c"])[["c", "a", "b"]]
    left, right = display.from_predictions(y, proba), display.from_predictions(y, shuffled)
    legends = [
        [text.get_text() for text in one.ax_.get_legend().get_texts()] for one in (left, right)
    ]
    assert legends[0] == legends[1]
    with pytest.raises(ValueError, match="no label in row 3"):
        display.from_predictions(np.where(np.arange(300) == 3, None, y), proba)
