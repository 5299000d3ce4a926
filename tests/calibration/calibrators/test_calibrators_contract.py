"""One contract, and every calibrator is run through it."""

from __future__ import annotations

import json
import pickle
import re
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skllm_calib.calibrators import (
    CALIBRATORS,
    BetaCalibration,
    ConstantCalibration,
    DirichletCalibration,
    DiscreteCalibration,
    EnsembleTemperatureScaling,
    IsotonicCalibration,
    MatrixScaling,
    PlattScaling,
    ScalingBinning,
    TemperatureScaling,
    VectorScaling,
    VennAbersCalibration,
)

PAGE = Path(__file__).parents[3] / "docs/extending/calibrator.rst"


def calibrator_of_the_page():
    """Run the code of the walk-through, and return the calibrator that it adds."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", text, re.M)
    names = {"__name__": "page"}
    for block in blocks:
        exec(textwrap.dedent(block), names)
    return CALIBRATORS.pop("uniform_mixing")  # other tests know only those of the package


UniformMixing = calibrator_of_the_page()
# Every one in the registry, and some with other parameters than the default ones.
EVERY = [
    *(kind() for kind in dict.fromkeys(CALIBRATORS.values())),
    UniformMixing(),
    TemperatureScaling(prior_scale=None),
    VectorScaling(bias_scale=0.5, uniform_mix=False),
    MatrixScaling(matrix_scale=0.2, bias_scale=0.5),
    DirichletCalibration(off_diagonal_penalty=0.5, bias_penalty=0.1),
    ScalingBinning(scaling=PlattScaling(), n_bins=5),
]
# All that learn from the scores, which is not asked of the yardstick.
INFORMED = [each for each in EVERY if not isinstance(each, ConstantCalibration)]
# Isotonic calibration warns about few rows, and the likelihood alone runs into its bounds.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Isotonic calibration of:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*edge of its search range"),
]


def simulate(n_rows=120, n_classes=3, seed=0):
    """Over-confident scores and labels, every class present."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n_rows, n_classes))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = np.array([rng.choice(n_classes, p=row) for row in proba])
    codes[:n_classes] = np.arange(n_classes)
    scores = 2.5 * logits
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True), codes


def assert_valid(proba, shape):
    assert proba.shape == shape
    assert proba.dtype == np.float64
    assert np.isfinite(proba).all()
    assert (proba > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)


@pytest.fixture(params=EVERY, ids=repr)
def calibrator(request):
    return clone(request.param)


class TestContract:
    def test_is_a_classifier(self, calibrator):
        assert is_classifier(calibrator)
        assert not get_tags(calibrator).input_tags.two_d_array

    def test_unfitted(self, calibrator):
        with pytest.raises(NotFittedError):
            calibrator.predict_proba([[0.0, -1.0]])
        with pytest.raises(NotFittedError):
            _ = calibrator.parameters_

    @pytest.mark.parametrize("n_classes", [2, 3, 10])
    def test_probabilities(self, calibrator, n_classes):
        log_proba, codes = simulate(n_classes=n_classes)
        assert calibrator.fit(log_proba, codes) is calibrator
        assert calibrator.n_features_in_ == n_classes
        proba = calibrator.predict_proba(log_proba)
        assert_valid(proba, log_proba.shape)
        log_out = calibrator.predict_log_proba(log_proba)
        assert np.isfinite(log_out).all()
        np.testing.assert_allclose(np.exp(log_out), proba, rtol=1e-12)
        np.testing.assert_array_equal(calibrator.predict(log_proba), proba.argmax(axis=1))

    @pytest.mark.parametrize(
        "names",
        [
            np.array(["ham", "news", "spam"]),
            np.array(["ham", "news", "spam"], dtype=object),
            np.array(["ham", "news", "spam"], dtype=np.dtypes.StringDType()),
            np.array([1, 2, 3]),
            np.array([-1, 0, 7]),
            np.array([10.0, 20.0, 30.0]),
        ],
        ids=lambda names: f"{names.dtype}-{names[0]}",
    )
    def test_labels_of_every_type(self, calibrator, names):
        log_proba, codes = simulate()
        expected = clone(calibrator).fit(log_proba, codes).predict_proba(log_proba)
        for classes in (None, names):
            calibrator.fit(log_proba, names[codes], classes=classes)
            assert calibrator.classes_.tolist() == names.tolist()
            np.testing.assert_array_equal(calibrator.predict_proba(log_proba), expected)
            assert set(calibrator.predict(log_proba)) <= set(names.tolist())

    @pytest.mark.parametrize("names", [[False, True], [-1, 1], [1, 2], ["no", "yes"]])
    def test_binary_labels(self, calibrator, names):
        log_proba, codes = simulate(n_classes=2)
        expected = clone(calibrator).fit(log_proba, codes).predict_proba(log_proba)
        calibrator.fit(log_proba, np.array(names)[codes].tolist())
        assert calibrator.classes_.tolist() == names
        np.testing.assert_array_equal(calibrator.predict_proba(log_proba), expected)

    def test_pandas_with_a_shuffled_index(self, calibrator):
        log_proba, codes = simulate()
        expected = clone(calibrator).fit(log_proba, codes).predict_proba(log_proba)
        index = np.random.default_rng(1).permutation(len(codes)) + 5
        frame = pd.DataFrame(log_proba, columns=["a", "b", "c"], index=index)
        calibrator.fit(frame, pd.Series(np.array(list("abc"))[codes], index=index))
        np.testing.assert_array_equal(calibrator.predict_proba(frame), expected)
        categories = pd.Series(pd.Categorical(np.array(list("abc"))[codes]), index=index)
        calibrator.fit(frame, categories, pd.Series(np.ones(len(codes)), index=index))
        np.testing.assert_array_equal(calibrator.predict_proba(frame), expected)

    def test_absent_classes_keep_a_probability(self, calibrator):
        log_proba, codes = simulate(n_classes=5)
        rows = np.isin(codes, [1, 3])
        calibrator.fit(log_proba[rows], codes[rows], classes=range(5))
        assert calibrator.classes_.tolist() == [0, 1, 2, 3, 4]
        assert_valid(calibrator.predict_proba(log_proba), log_proba.shape)

    def test_more_classes_than_rows(self, calibrator):
        log_proba, codes = simulate(n_rows=40, n_classes=40)
        calibrator.fit(log_proba[:35], codes[:35], classes=range(40))
        assert_valid(calibrator.predict_proba(log_proba), log_proba.shape)

    def test_a_single_label_seen(self, calibrator):
        log_proba, _ = simulate(n_classes=2)
        with pytest.warns(UserWarning, match=r"every row \(.* in all\) has the label 'yes'"):
            calibrator.fit(log_proba, ["yes"] * len(log_proba), classes=["no", "yes"])
        proba = calibrator.predict_proba(log_proba)
        assert_valid(proba, log_proba.shape)
        assert proba[:, 1].mean() > 0.5

    def test_a_single_class(self, calibrator):
        calibrator.fit(np.zeros((60, 1)), ["only"] * 60)
        np.testing.assert_array_equal(calibrator.predict_proba(np.zeros((3, 1))), 1.0)
        assert calibrator.predict(np.zeros((3, 1))).tolist() == ["only"] * 3

    def test_one_row(self, calibrator):
        with pytest.warns(UserWarning, match="Add rows of every class"):
            calibrator.fit([[-0.1, -2.4]], ["b"], classes=["a", "b"])
        assert_valid(calibrator.predict_proba([[-0.1, -2.4], [-5.0, 0.0]]), (2, 2))

    @pytest.mark.parametrize("calibrator", INFORMED, ids=repr, indirect=True)
    def test_separable_data(self, calibrator):
        codes = np.arange(90) % 3
        log_proba = np.log(np.full((90, 3), 0.001) + 0.997 * np.eye(3)[codes])
        calibrator.fit(log_proba, codes)
        assert_valid(calibrator.predict_proba(log_proba), log_proba.shape)
        np.testing.assert_array_equal(calibrator.predict(log_proba), codes)

    def test_scores_without_information(self, calibrator):
        codes = np.arange(100) % 4 // 3  # a quarter of the labels are 1
        calibrator.fit(np.log(np.full((100, 2), 0.5)), codes)
        assert_valid(calibrator.predict_proba(np.zeros((1, 2))), (1, 2))

    @pytest.mark.parametrize("n_rows", [20, 80])
    def test_integer_weights_are_copies(self, calibrator, n_rows):
        log_proba, codes = simulate(n_rows=n_rows)
        weight = np.random.default_rng(2).integers(0, 4, size=n_rows)
        weight[:3] = 1
        weighted = clone(calibrator).fit(log_proba, codes, weight).predict_proba(log_proba)
        rows = np.random.default_rng(3).permutation(np.repeat(np.arange(n_rows), weight))
        copied = calibrator.fit(log_proba[rows], codes[rows]).predict_proba(log_proba)
        np.testing.assert_allclose(weighted, copied, rtol=1e-5)

    def test_rows_of_weight_zero_are_removed_rows(self, calibrator):
        log_proba, codes = simulate()
        expected = clone(calibrator).fit(log_proba[20:], codes[20:]).predict_proba(log_proba)
        broken = log_proba.copy()
        broken[:20] = np.nan  # a row that does not count may even be unreadable
        calibrator.fit(broken, codes, np.arange(len(codes)) >= 20)
        np.testing.assert_allclose(calibrator.predict_proba(log_proba), expected, rtol=1e-12)

    def test_order_of_rows_is_irrelevant(self, calibrator):
        log_proba, codes = simulate()
        expected = clone(calibrator).fit(log_proba, codes).predict_proba(log_proba)
        calibrator.fit(log_proba[::-1], codes[::-1])
        np.testing.assert_allclose(calibrator.predict_proba(log_proba), expected, rtol=1e-6)

    def test_predictions_do_not_depend_on_the_batch(self, calibrator):
        log_proba, codes = simulate()
        calibrator.fit(log_proba, codes)
        alone = np.vstack([calibrator.predict_proba(row[None]) for row in log_proba[:10]])
        np.testing.assert_allclose(calibrator.predict_proba(log_proba)[:10], alone, rtol=1e-12)

    def test_deterministic_and_refittable(self, calibrator):
        log_proba, codes = simulate()
        first = calibrator.fit(log_proba, codes).predict_proba(log_proba)
        other, other_codes = simulate(n_classes=4, seed=5)
        calibrator.fit(other, other_codes)
        np.testing.assert_array_equal(
            calibrator.fit(log_proba, codes).predict_proba(log_proba), first
        )

    def test_inputs_are_not_changed(self, calibrator):
        log_proba, codes = simulate()
        log_proba[0, 1] = -np.inf
        before = log_proba.copy()
        calibrator.fit(log_proba, codes).predict_proba(log_proba)
        np.testing.assert_array_equal(log_proba, before)

    def test_clone_and_pickle(self, calibrator):
        log_proba, codes = simulate()
        calibrator.fit(log_proba, codes)
        assert not hasattr(clone(calibrator), "classes_")
        if isinstance(calibrator, UniformMixing):
            return  # a class of a page has no module to be found in
        thawed = pickle.loads(pickle.dumps(calibrator))
        np.testing.assert_array_equal(
            thawed.predict_proba(log_proba), calibrator.predict_proba(log_proba)
        )

    def test_parameters_survive_json(self, calibrator):
        log_proba, codes = simulate()
        parameters = calibrator.fit(log_proba, codes).parameters_
        assert parameters
        assert json.loads(json.dumps(parameters)) == parameters

    def test_unnormalised_rows(self, calibrator):
        log_proba, codes = simulate()
        expected = clone(calibrator).fit(log_proba, codes).predict_proba(log_proba)
        shift = np.linspace(-30, 30, len(codes))[:, None]
        calibrator.fit(log_proba + shift, codes)
        np.testing.assert_allclose(calibrator.predict_proba(log_proba - shift), expected, rtol=1e-6)

    def test_minus_infinity_is_25_nats_below_the_best(self, calibrator):
        log_proba, codes = simulate(n_classes=2)
        floored = log_proba.copy()
        log_proba[:9, 0] = [-np.inf, -1e9, -30.0] * 3  # the last two in their order, just above
        log_proba[:9, 1] = 0.0
        floored[:9] = [-25.0, 0.0]
        expected = clone(calibrator).fit(floored, codes).predict_proba(floored)
        calibrator.fit(log_proba, codes)
        assert_valid(calibrator.predict_proba(log_proba), log_proba.shape)
        found = calibrator.predict_proba(log_proba)
        np.testing.assert_allclose(found, expected, rtol=0.1)  # "auto" knows copies of rows

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (np.nan, r"row 7 contains NaN \(1 such row\)"),
            (np.inf, "row 7 contains plus infinity"),
            ([-np.inf] * 3, "row 7 has no finite entry"),
        ],
    )
    def test_unusable_rows_are_named(self, calibrator, value, problem):
        log_proba, codes = simulate()
        calibrator.fit(log_proba, codes)
        log_proba[7] = value
        with pytest.raises(ValueError, match=problem):
            calibrator.predict_proba(log_proba)
        with pytest.raises(ValueError, match=problem):
            calibrator.fit(log_proba, codes)

    def test_wrong_number_of_columns(self, calibrator):
        log_proba, codes = simulate()
        calibrator.fit(log_proba, codes)
        with pytest.raises(ValueError, match="log_proba has 2 columns for the 3 classes"):
            calibrator.predict_proba(log_proba[:, :2])

    @pytest.mark.parametrize("calibrator", INFORMED, ids=repr, indirect=True)
    def test_calibration_helps_overconfident_scores(self, calibrator):
        log_proba, codes = simulate(n_rows=2000)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            calibrator.fit(log_proba[:1000], codes[:1000])
        rows = np.arange(1000, 2000), codes[1000:]
        assert calibrator.predict_log_proba(log_proba)[rows].mean() > log_proba[rows].mean() + 0.1


@pytest.mark.parametrize(
    "calibrator",
    [
        TemperatureScaling(),
        VectorScaling(),
        PlattScaling(),
        IsotonicCalibration(),
        BetaCalibration(),
        ScalingBinning(),
        VennAbersCalibration(),
        EnsembleTemperatureScaling(),
        DiscreteCalibration(),
        ConstantCalibration(),
    ],
    ids=repr,
)
def test_binary_probability_rises_with_the_score(calibrator):
    log_proba, codes = simulate(n_classes=2)
    calibrator.fit(log_proba, codes)
    odds = np.linspace(-30, 30, 201)
    proba = calibrator.predict_proba(np.stack([np.zeros_like(odds), odds], axis=1))[:, 1]
    assert (np.diff(proba) >= -1e-15).all()
