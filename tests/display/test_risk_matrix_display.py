import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression

from skllm_calib.decisions.risk_matrix import RiskMatrix
from skllm_calib.display.risk_matrix import RiskMatrixDisplay
from skllm_calib.exceptions import MissingDependency

BANDS = {"rare": (0, 0.05), "likely": (0.05, 1)}
ACTIONS = [["accept", "review"], ["review", "reject"]]


@pytest.fixture
def matrix():
    return RiskMatrix(BANDS, {"minor": 0, "major": 12_500}, ACTIONS)


@pytest.fixture
def rows():
    return [[0.99, 0.01], [0.01, 0.99], [0.7, 0.3], [0.6, 0.4]], [
        "minor",
        "minor",
        "minor",
        "major",
    ]


def texts(display):
    return [[text.get_text() for text in row] for row in display.text_]


def legend(display):
    # Shown from the last to the first.
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def grey(colours):
    return np.asarray(colours)[..., :3] @ [0.299, 0.587, 0.114]


def test_cells_show_action_count_and_share(matrix, rows):
    display = RiskMatrixDisplay.from_predictions(matrix, *rows, name="June")
    assert texts(display) == [
        ["accept\n2 (50.0%)", "review\n–"],
        ["review\n1 (25.0%)", "reject\n1 (25.0%)"],
    ]
    for band in range(2):  # likelihood upwards, impact to the right
        for level in range(2):
            assert display.text_[band, level].get_position() == (level + 0.5, band + 0.5)
    np.testing.assert_array_equal(display.counts, matrix.cells(*rows))
    np.testing.assert_array_equal(display.mesh_.get_array().reshape(2, 2), [[0, 1], [1, 2]])
    assert sorted(legend(display)) == [
        "accept: 2 (50.0%)",
        "reject: 1 (25.0%)",
        "review: 1 (25.0%)",
    ]
    assert display.ax_.get_legend().get_title().get_text() == "June"
    assert display.ax_.get_xlabel() == "Impact"
    assert display.ax_.get_ylabel() == "Probability of error"
    ticks = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert ticks == ["rare\n0% to 5%", "likely\n5% to 100%"]
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["minor\nfrom 0", "major\nfrom 12,500"]
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_texts_fit_their_cells_and_can_be_read_in_grey():
    matrix = RiskMatrix.five_by_five()
    counts = np.arange(25).reshape(5, 5) * 54_321
    display = RiskMatrixDisplay(matrix, counts).plot()
    display.figure_.canvas.draw()
    width, height = display.ax_.transData.transform([1, 1]) - display.ax_.transData.transform(
        [0, 0]
    )
    faces = display.mesh_.get_facecolors()
    for number, text in enumerate(display.text_.flat):
        box = text.get_window_extent()
        assert box.width < width
        assert box.height < height
        ink = 0.0 if text.get_color() == "black" else 1.0
        assert abs(grey(faces[number]) - ink) > 0.4
    shades = [grey(faces[matrix.actions.ravel().tolist().index(a)]) for a in matrix.action_order]
    assert (np.diff(shades) < -0.15).all()  # the stricter the darker, and not by a little
    bottom = display.figure_.bbox
    box = display.ax_.get_legend().get_window_extent()
    assert box.x1 <= bottom.x1
    assert box.x0 >= display.ax_.get_window_extent().x1


def test_matrix_alone_weights_and_options(matrix, rows):
    alone = RiskMatrixDisplay(matrix).plot(name="plan", text_kw={"fontsize": 5})
    assert texts(alone) == ACTIONS
    assert sorted(legend(alone)) == ["accept", "reject", "review"]
    assert alone.text_[0, 0].get_fontsize() == 5
    _, ax = plt.subplots()
    weighted = RiskMatrixDisplay.from_predictions(
        matrix, *rows, sample_weight=[1, 0.5, 1, 0.5], ax=ax, cmap="Greys"
    )
    assert weighted.ax_ is ax
    assert weighted.text_[0, 0].get_text() == "accept\n1.5 (50.0%)"
    faces = weighted.figure_.canvas.draw() or weighted.mesh_.get_facecolors()
    np.testing.assert_allclose(grey(faces[[0, 3]]), [1, 0], atol=0.01)
    assert weighted.text_[1, 1].get_color() == "white"
    nothing = RiskMatrixDisplay(matrix, np.zeros((2, 2), dtype=int)).plot()
    assert nothing.text_[0, 0].get_text() == "accept\n–"
    assert sorted(legend(nothing)) == ["accept: 0", "reject: 0", "review: 0"]


def test_from_estimator():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    model = LogisticRegression().fit(X, np.where(X[:, 0] + rng.normal(size=200) > 0, "b", "a"))
    matrix = RiskMatrix(
        BANDS, ["minor", "major"], ACTIONS, impact={"a": "minor", "b": "major"}, event_class="b"
    )
    display = RiskMatrixDisplay.from_estimator(matrix, model, X)
    np.testing.assert_array_equal(display.counts, matrix.cells(model.predict_proba(X)))
    assert display.name == "LogisticRegression"
    assert display.ax_.get_ylabel() == "Probability of b"
    plain = RiskMatrix(BANDS, ["minor", "major"], ACTIONS)
    assert RiskMatrixDisplay.from_estimator(plain, model, X, "minor", name="x").name == "x"
    other = RiskMatrix(BANDS, ["minor", "major"], ACTIONS, impact={"b": "minor", "c": "major"})
    with pytest.raises(
        ValueError, match=r"knows the classes \['b', 'c'\], the estimator \['a', 'b'"
    ):
        RiskMatrixDisplay.from_estimator(other, model, X)


def test_bad_counts(matrix):
    with pytest.raises(ValueError, match=r"counts must have the shape \(2, 2\).*got \(3, 2\)"):
        RiskMatrixDisplay(matrix, np.zeros((3, 2))).plot()


def test_without_matplotlib(matrix, rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependency, match=r"RiskMatrixDisplay needs matplotlib.*\[plot\]"):
        RiskMatrixDisplay.from_predictions(matrix, *rows)
    with pytest.raises(MissingDependency, match="from_estimator"):
        RiskMatrixDisplay.from_estimator(matrix, None, None)
