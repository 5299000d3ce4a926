"""One contract of labels and probabilities: every public entry point reads them alike.

Each entry point is called with plain numpy arrays, and with the same labels and probabilities in
every other container: the result must be the same. What cannot be used must be refused by all of
them as `InvalidInput`, with the parameter and the row.
"""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression

from skllm_calib import (
    CalibratedLLMClassifier,
    CalibrationMonitor,
    CalibrationReport,
    PredictionSets,
    ReviewClassifier,
    ReviewPolicy,
    RiskMatrix,
    accept_threshold,
    display,
    metrics,
)
from skllm_calib.calibration import (
    brier_decomposition,
    calibration_learning_curve,
    log_loss_decomposition,
)
from skllm_calib.calibrators import CALIBRATORS
from skllm_calib.exceptions import InvalidInput

pytestmark = [
    pytest.mark.filterwarnings("ignore:Isotonic calibration of:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*edge of its search range"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

N, BAD = 120, 7
RNG = np.random.default_rng(0)
CODES = np.arange(N) % 3
SCORES = 2.0 * np.eye(3)[CODES] + RNG.normal(size=(N, 3))
PROBA = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
TEXTS, NUMBERS = np.array(["ham", "news", "spam"]), np.array([1, 5, 7])
Y, P = np.arange(N) % 2 == 1, np.clip(0.2 + 0.6 * (np.arange(N) % 2) + RNG.normal(size=N) / 9, 0, 1)


class Oracle(ClassifierMixin, BaseEstimator):
    """Knows the probabilities of the rows beforehand."""

    def __init__(self, proba, classes):
        self.proba = proba
        self.classes_ = classes

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return self.proba


# -- the entry points: functions of (y, proba) ---------------------------------------------------


def of_signature(module):
    """Find the functions of a module whose first arguments are labels and probabilities."""
    for name in module.__all__:
        function = getattr(module, name)
        if inspect.isfunction(function):
            known = list(inspect.signature(function).parameters)
            if known[:2] == ["y_true", "y_proba"]:
                few = {name: 20 for name in ("n_resamples", "n_simulations") if name in known}
                yield name, lambda y, p, f=function, few=few: f(y, p, **few)


def drawn(name, *more):
    def call(y, proba):
        found = getattr(display, name).from_predictions(y, *[proba] * (1 + len(more)))
        return {k: v for k, v in vars(found).items() if not k.endswith("_")}

    return call


def policy(y, proba):
    found = ReviewPolicy(0.7, on_not_certifiable="review").fit(y, proba)
    return found.decide(proba), found.predict(proba), found.summary()


def monitor(y, proba):
    found = CalibrationMonitor(tolerance=0.2, drift=0.3).fit(y, proba)
    found.update(y, proba)
    found.update(None, proba, ids=range(N))
    found.add_labels(range(N), y)
    return found.summary()


def report(y, proba):
    return CalibrationReport.from_predictions(y, proba, policy=ReviewPolicy(0.7)).to_dict()


ENTRIES = {
    **dict(of_signature(metrics)),
    "brier_decomposition": lambda y, p: brier_decomposition(y, p, kind="top-label"),
    "log_loss_decomposition": lambda y, p: log_loss_decomposition(y, p, kind="top-label"),
    "accept_threshold": lambda y, p: accept_threshold(y, p, target_precision=0.3),
    "ReviewPolicy": policy,
    "PredictionSets": lambda y, p: PredictionSets().fit(y, p).predict_labels(p),
    "CalibrationReport": report,
    "CalibrationMonitor": monitor,
    "ReliabilityDisplay": drawn("ReliabilityDisplay"),
    "ReviewCostDisplay": drawn("ReviewCostDisplay"),
    "RiskCoverageDisplay": drawn("RiskCoverageDisplay"),
    "ScoreHistogramDisplay": drawn("ScoreHistogramDisplay"),
    "CalibrationComparisonDisplay": drawn("CalibrationComparisonDisplay", "after"),
}
# Of log-probabilities, in this order of arguments.
FITTED = {
    **{
        name: lambda y, s, kind=kind: kind().fit(s, y).predict_proba(s)
        for name, kind in CALIBRATORS.items()
        if name != "sigmoid"
    },
    "learning curve": lambda y, s: calibration_learning_curve(
        s, y, calibrator="temperature", n_labels=[40], n_draws=2
    ),
    "LearningCurveDisplay": lambda y, s: (
        display.CalibrationLearningCurveDisplay.from_predictions(
            y, s, calibrator="temperature", n_labels=[40], n_draws=2
        ).curve
    ),
    "estimate_class_prior": lambda y, s: metrics.estimate_class_prior(
        SCORES, method="bbse", labelled_log_proba=s, y=y, max_standard_error=9
    ),
}
# Of probabilities alone.
UNLABELLED = {
    "noise floor": metrics.calibration_noise_floor,
    "suggest_rows_to_label": lambda p: metrics.suggest_rows_to_label(p, 20),
    "ReviewPolicy": lambda p: ReviewPolicy(max_reviews=0.5).fit(None, p).decide(p),
    "RiskMatrix": lambda p: RiskMatrix.five_by_five().decide(p, "major"),
    "CalibrationMonitor": lambda p: CalibrationMonitor().fit(None, p).summary()["rows"],
}
# Of labels alone, with rows of features; they are told the classes where a fitted model knows them.
X = SCORES[:, :2]


def calibrated(y, classes):
    clf = CalibratedLLMClassifier(LogisticRegression(), method="temperature").fit(X, y)
    return clf.predict_proba(X), clf.classes_.tolist()


def reviewed(y, classes):
    rule = ReviewPolicy(0.6, on_not_certifiable="review")
    return ReviewClassifier(LogisticRegression(), rule, cv=3).fit(X, y).predict(X)


LABELLED = {
    **{
        f"{name} scorer": lambda y, classes, scorer=scorer: scorer(Oracle(PROBA, classes), X, y)
        for name, scorer in metrics.calibration_scoring().items()
    },
    "CalibratedLLMClassifier": calibrated,
    "ReviewClassifier": reviewed,
}


# -- the containers ------------------------------------------------------------------------------


def string_dtype(labels):
    return labels.astype(np.dtypes.StringDType())


def arrow(kind):
    return pd.ArrowDtype(kind)


LABELS = {
    "list": (TEXTS, list),
    "tuple": (TEXTS, tuple),
    "objects": (TEXTS, lambda y: y.astype(object)),
    "StringDType": (TEXTS, string_dtype),
    "pandas": (TEXTS, lambda y: pd.Series(y, index=np.arange(N)[::-1])),
    "pandas string": (TEXTS, lambda y: pd.Series(y, dtype="string")),
    "pandas category": (TEXTS, lambda y: pd.Series(y, dtype="category")),
    "pandas Arrow": (TEXTS, lambda y: pd.Series(y, dtype=arrow(pa.string()))),
    "Categorical": (TEXTS, pd.Categorical),
    "Index": (TEXTS, pd.Index),
    "polars": (TEXTS, lambda y: pl.Series("y", y)),
    "pyarrow": (TEXTS, lambda y: pa.array(y.tolist())),
    "list of integers": (NUMBERS, lambda y: y.tolist()),
    "object integers": (NUMBERS, lambda y: pd.Series(y, dtype=object)),
    "Int64": (NUMBERS, lambda y: pd.Series(y, dtype="Int64")),
    "int8": (NUMBERS, lambda y: y.astype(np.int8)),
    "Arrow integers": (NUMBERS, lambda y: pd.Series(y, dtype=arrow(pa.int64()))),
    "polars integers": (NUMBERS, pl.Series),
    "category of integers": (NUMBERS, lambda y: pd.Series(y, dtype="category")),
    "floats": (NUMBERS.astype(float), lambda y: pd.Series(y, dtype="Float64")),
    "column": (NUMBERS, lambda y: y[:, None]),
    "column of a frame": (TEXTS, lambda y: pd.DataFrame({"y": y})),
    "Arrow table": (TEXTS, lambda y: pa.table({"y": y.tolist()})),
}
NAMES = {"proba_spam": 2, "proba_ham": 0, "proba_news": 1}
MATRICES = {
    "list": lambda p: p.tolist(),
    "tuples": lambda p: tuple(map(tuple, p.tolist())),
    "objects": lambda p: p.astype(object),
    "fortran": np.asfortranarray,
    "pandas": lambda p: pd.DataFrame(p, index=np.arange(N)[::-1]),
    "pandas Float64": lambda p: pd.DataFrame(p, columns=["x1", "x2", "x3"], dtype="Float64"),
    "pandas Arrow": lambda p: pd.DataFrame(p, dtype=arrow(pa.float64())),
    "pandas objects": lambda p: pd.DataFrame(p, dtype=object),
    "polars": pl.DataFrame,
    "pyarrow": lambda p: pa.table({f"p{k}": p[:, k] for k in range(3)}),
    "named": lambda p: pd.DataFrame({name: p[:, k] for name, k in NAMES.items()}),
    "named, polars": lambda p: pl.DataFrame({name[6:]: p[:, k] for name, k in NAMES.items()}),
    "named, pyarrow": lambda p: pa.table({name: p[:, k] for name, k in NAMES.items()}),
}
ONE_COLUMN = {
    "list": lambda p: p.tolist(),
    "objects": lambda p: p.astype(object),
    "Float64": lambda p: pd.Series(p, dtype="Float64", index=np.arange(N)[::-1]),
    "Arrow": lambda p: pd.Series(p, dtype=arrow(pa.float64())),
    "named": lambda p: pd.Series(1 - p, name="False"),
    "polars": lambda p: pl.Series("p", p),
    "pyarrow": pa.array,
}


def with_bad_row(values, value):
    """Return a list of labels with another one at the bad row."""
    out = list(values.tolist())
    out[BAD] = value
    return out


BAD_LABELS = {
    "None": lambda y: with_bad_row(y, None),
    "nan": lambda y: with_bad_row(y, float("nan")),
    "NaT": lambda y: with_bad_row(y, pd.NaT),
    "NA": lambda y: np.array(with_bad_row(y, pd.NA), dtype=object),
    "pandas": lambda y: pd.Series(with_bad_row(y, None), dtype="string"),
    "category": lambda y: pd.Series(with_bad_row(y, None), dtype="category"),
    "Arrow": lambda y: pd.Series(with_bad_row(y, None), dtype=arrow(pa.string())),
    "polars": lambda y: pl.Series(with_bad_row(y, None)),
    "mixed": lambda y: with_bad_row(y, 3),
}


def probabilities_with(value, row=BAD):
    out = PROBA.astype(object)
    out[row, 1] = value
    return out


BAD_PROBA = {
    "outside": lambda: probabilities_with(1.5).astype(float),
    "sum": lambda: probabilities_with(0.99).astype(float),
    "text": lambda: probabilities_with("0.5"),
}
UNSCORED = {
    "nan": lambda: probabilities_with(np.nan).astype(float),
    "None": lambda: probabilities_with(None).tolist(),
    "Float64": lambda: pd.DataFrame(probabilities_with(pd.NA)).astype("Float64"),
    "Arrow": lambda: pd.DataFrame(probabilities_with(None)).astype(arrow(pa.float64())),
    "polars": lambda: pl.DataFrame(probabilities_with(None).tolist(), orient="row"),
}
# These set rows apart that a classifier could not score.
TAKES_UNSCORED = {"ReviewPolicy", "CalibrationMonitor", "CalibrationReport"}


# -- comparing -----------------------------------------------------------------------------------


def plain(value):
    """Return anything as numbers, texts, lists and dicts."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return round(value, 11) if isinstance(value, float) and np.isfinite(value) else str(value)


KNOWN = {}


def result_of_arrays(name, call, *arguments):
    """Return the result of plain arrays, computed once."""
    key = name, *(str(one.dtype) for one in arguments)
    if key not in KNOWN:
        KNOWN[key] = plain(call(*arguments))
    return KNOWN[key]


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    """Leave out the pictures: what they are made of is compared."""
    for name in display.__all__:
        monkeypatch.setattr(getattr(display, name), "plot", lambda self, *a, **k: self)


@pytest.fixture(autouse=True)
def column_vectors_are_allowed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataConversionWarning)
        yield


def assert_refused(call, *arguments, parameter, row=BAD):
    with pytest.raises(InvalidInput) as caught:
        call(*arguments)
    error = caught.value
    assert error.parameter in parameter
    assert error.row == row
    assert error.parameter in str(error)
    assert pickle.loads(pickle.dumps(error)).row == row


# -- the tests -----------------------------------------------------------------------------------

Y_NAMES = {"y", "y_true"}
PROBA_NAMES = {"proba", "y_proba", "log_proba", "labelled_log_proba", "before"}


@pytest.mark.parametrize("container", LABELS)
@pytest.mark.parametrize("name", ENTRIES)
def test_labels_in_every_container(name, container):
    classes, make = LABELS[container]
    y = classes[CODES]
    found = plain(ENTRIES[name](make(y), PROBA))
    assert found == result_of_arrays(name, ENTRIES[name], y, PROBA)


@pytest.mark.parametrize("container", ["objects", "pandas string", "Int64", "column"])
@pytest.mark.parametrize("name", FITTED)
def test_labels_of_log_probabilities(name, container):
    classes, make = LABELS[container]
    y = classes[CODES]
    found = plain(FITTED[name](make(y), SCORES))
    assert found == result_of_arrays(name, FITTED[name], y, SCORES)


@pytest.mark.parametrize("container", LABELS)
@pytest.mark.parametrize("name", LABELLED)
def test_labels_beside_features(name, container):
    classes, make = LABELS[container]
    y = classes[CODES]
    found = plain(LABELLED[name](make(y), classes))
    assert found == result_of_arrays(name, LABELLED[name], y, classes)


@pytest.mark.parametrize("container", MATRICES)
@pytest.mark.parametrize("name", ENTRIES)
def test_probabilities_in_every_container(name, container):
    y = TEXTS[CODES]
    found = plain(ENTRIES[name](y, MATRICES[container](PROBA)))
    assert found == result_of_arrays(name, ENTRIES[name], y, PROBA)


# Every container for one of the calibrators, which all read by the base class.
READERS = ["temperature", "learning curve", "LearningCurveDisplay", "estimate_class_prior"]


@pytest.mark.parametrize(
    ("name", "container"),
    [(name, one) for name in FITTED for one in MATRICES if name in READERS or "named" in one],
)
def test_log_probabilities_in_every_container(name, container):
    y = TEXTS[CODES]
    found = plain(FITTED[name](y, MATRICES[container](SCORES)))
    assert found == result_of_arrays(name, FITTED[name], y, SCORES)


@pytest.mark.parametrize("container", [name for name in MATRICES if "named" not in name])
@pytest.mark.parametrize("name", UNLABELLED)
def test_probabilities_without_labels(name, container):
    found = plain(UNLABELLED[name](MATRICES[container](PROBA)))
    assert found == result_of_arrays(name, UNLABELLED[name], PROBA)


@pytest.mark.parametrize("container", ONE_COLUMN)
@pytest.mark.parametrize("name", ENTRIES)
def test_one_dimension(name, container):
    found = plain(ENTRIES[name](Y, ONE_COLUMN[container](P)))
    assert found == result_of_arrays(name, ENTRIES[name], Y, P)


@pytest.mark.parametrize("container", BAD_LABELS)
@pytest.mark.parametrize("name", ENTRIES)
def test_labels_that_cannot_be_used(name, container):
    y = BAD_LABELS[container](TEXTS[CODES])
    assert_refused(ENTRIES[name], y, PROBA, parameter=Y_NAMES)


@pytest.mark.parametrize("container", ["None", "NA", "mixed"])
@pytest.mark.parametrize("name", [*FITTED, *LABELLED])
def test_labels_that_cannot_be_fitted_on(name, container):
    y = BAD_LABELS[container](TEXTS[CODES])
    if name in FITTED:
        assert_refused(FITTED[name], y, SCORES, parameter=Y_NAMES)
    else:
        assert_refused(LABELLED[name], y, TEXTS, parameter=Y_NAMES)


@pytest.mark.parametrize("kind", BAD_PROBA)
@pytest.mark.parametrize("name", [*ENTRIES, *UNLABELLED])
def test_probabilities_that_cannot_be_used(name, kind):
    proba = BAD_PROBA[kind]()
    if name in ENTRIES:
        assert_refused(ENTRIES[name], TEXTS[CODES], proba, parameter=PROBA_NAMES)
    if name in UNLABELLED:
        assert_refused(UNLABELLED[name], proba, parameter=PROBA_NAMES)


@pytest.mark.parametrize("container", UNSCORED)
@pytest.mark.parametrize("name", ENTRIES)
def test_missing_probabilities(name, container):
    y, proba = TEXTS[CODES], UNSCORED[container]()
    if name in TAKES_UNSCORED:
        kept = np.where((np.arange(N) == BAD)[:, None], np.nan, PROBA)
        assert plain(ENTRIES[name](y, proba)) == plain(ENTRIES[name](y, kept))
    else:
        assert_refused(ENTRIES[name], y, proba, parameter=PROBA_NAMES)


@pytest.mark.parametrize("container", UNSCORED)
@pytest.mark.parametrize("name", READERS)
def test_missing_log_probabilities(name, container):
    assert_refused(FITTED[name], TEXTS[CODES], UNSCORED[container](), parameter=PROBA_NAMES)


@pytest.mark.parametrize("name", ENTRIES)
def test_single_floats_are_forgiven_their_rounding(name):
    single = PROBA.astype(np.float32)
    for proba in (single, pd.DataFrame(single), pd.DataFrame(single).astype("Float32")):
        assert plain(ENTRIES[name](TEXTS[CODES], proba)) == plain(
            ENTRIES[name](TEXTS[CODES], single.astype(float))
        )


@pytest.mark.parametrize("name", ENTRIES)
def test_columns_that_are_named_in_part(name):
    frame = pd.DataFrame(PROBA, columns=["ham", "spam", "other"])
    assert_refused(ENTRIES[name], TEXTS[CODES], frame, parameter=PROBA_NAMES, row=None)


@pytest.mark.parametrize("name", ENTRIES)
def test_swapped_arguments(name):
    with pytest.raises(InvalidInput, match=r"the order of arguments is \((y|y_true), "):
        ENTRIES[name](PROBA, TEXTS[CODES])


@pytest.mark.parametrize("labels", [TEXTS[CODES], NUMBERS[CODES]], ids=["texts", "numbers"])
@pytest.mark.parametrize("name", FITTED)
def test_swapped_arguments_of_what_is_fitted(name, labels):
    with pytest.raises(InvalidInput) as caught:
        FITTED[name](SCORES, labels)
    assert caught.value.parameter in {*Y_NAMES, *PROBA_NAMES}
    if name in CALIBRATORS:
        assert "the order of arguments is (log_proba, y)" in str(caught.value)


@pytest.mark.parametrize("labels", [TEXTS[CODES], NUMBERS[CODES], CODES, CODES % 2 == 0])
def test_swapped_arguments_of_an_update(labels):
    fitted = CalibrationMonitor().fit(None, PROBA)
    with pytest.raises(InvalidInput, match=r"the order of arguments is \(y, proba\)"):
        fitted.update(PROBA, labels)


# What is wrong with y, for all that take it: labels, part of the message, the row.
WRONG_Y = {
    "None": (None, "requires y(_true)? to be passed, but the target y(_true)? is None", None),
    "ragged": ([["a"], ["a", "b"]] * (N // 2), "entries of different lengths", None),
    "complex": (CODES + 1j, "Complex data not supported", 0),
    "infinite": ([1.0, 2.0, np.inf] * (N // 3), "infinity, in row 2", 2),
    "huge": ([1, 2, 2**70] * (N // 3), "more than 64 bits in row 2", 2),
    "short": (TEXTS[CODES][:-1], "119", None),
}
WRONG_FOR_ALL = {
    "brier_score": lambda y: metrics.brier_score(y, PROBA),
    "calibrator": lambda y: CALIBRATORS["temperature"]().fit(SCORES, y),
    "PredictionSets": lambda y: PredictionSets().fit(y, PROBA),
    "CalibrationReport": lambda y: CalibrationReport.from_predictions(y, PROBA),
    "CalibratedLLMClassifier": lambda y: calibrated(y, None),
    "ReviewClassifier": lambda y: reviewed(y, None),
}


@pytest.mark.parametrize("wrong", WRONG_Y)
@pytest.mark.parametrize("name", WRONG_FOR_ALL)
def test_what_is_wrong_with_y_is_said_alike(name, wrong):
    y, message, row = WRONG_Y[wrong]
    with pytest.raises(InvalidInput, match=message) as caught:
        WRONG_FOR_ALL[name](y)
    assert caught.value.parameter in Y_NAMES
    assert caught.value.row == row


@pytest.mark.parametrize("name", ["CalibratedLLMClassifier", "ReviewClassifier"])
def test_measurements_are_not_classes(name):
    y = np.where(np.arange(N) == BAD, 0.5, 1.0)
    assert_refused(WRONG_FOR_ALL[name], y, parameter={"y"})


def test_one_class_is_said_to_be_one():
    with pytest.raises(InvalidInput, match=r"y holds one class only, 'a'") as caught:
        reviewed(["a"] * N, None)
    assert caught.value.parameter == "y"


def test_more_classes_than_columns():
    y = np.array([*TEXTS, "zoo"])[np.arange(N) % 4]
    for proba in (PROBA, pd.DataFrame(PROBA, columns=TEXTS)):
        with pytest.raises(InvalidInput, match=r"holds 4 classes.* only 3") as error:
            metrics.brier_score(y, proba)
        assert "labels=" not in str(error.value)
    assert "no column is named 'zoo'" in str(error.value)


def test_labels_of_floats_name_columns():
    expected = metrics.calibration_noise_floor(PROBA)
    for names in ([1.0, 5.0, 7.0], [1, 5, 7], ["a", "c", "e"]):
        assert metrics.calibration_noise_floor(pd.DataFrame(PROBA, columns=names)) == expected
    named = pd.DataFrame(PROBA[:, ::-1], columns=[7.0, 5.0, 1.0])
    assert metrics.brier_score(NUMBERS[CODES], named) == metrics.brier_score(CODES, PROBA)


def test_half_floats_are_forgiven_their_rounding():
    half = PROBA.astype(np.float16)
    for call in ENTRIES.values():
        call(TEXTS[CODES], half)


def test_columns_of_one_name_are_taken_by_position():
    frame = pd.DataFrame(SCORES, columns=list("xxx"))
    expected = CALIBRATORS["temperature"]().fit(SCORES, TEXTS[CODES]).predict_proba(SCORES)
    with pytest.warns(UserWarning, match="taken by position"):
        found = CALIBRATORS["temperature"]().fit(frame, TEXTS[CODES])
    with pytest.warns(UserWarning, match="taken by position"):
        np.testing.assert_array_equal(found.predict_proba(frame), expected)


NEAR = {
    "prefix": ["prob_ham", "prob_news", "prob_spam"],
    "case": ["Ham", "NEWS", "Spam"],
    "levels": pd.MultiIndex.from_product([["p"], TEXTS]),
}


@pytest.mark.parametrize("names", NEAR.values(), ids=list(NEAR))
def test_names_that_are_almost_labels(names):
    frame = pd.DataFrame(PROBA, columns=names)
    with pytest.warns(UserWarning, match=r"y_proba has the columns .* taken by position") as told:
        found = metrics.brier_score(TEXTS[CODES], frame)
    assert (len(told), found) == (1, metrics.brier_score(TEXTS[CODES], PROBA))


@pytest.mark.parametrize("pattern", ["{}", "p{}", "col_{}", "class {}", "column_{}"])
def test_names_that_only_count_say_nothing(pattern):
    frame = pd.DataFrame(PROBA, columns=[pattern.format(k) for k in range(1, 4)])
    assert metrics.brier_score(TEXTS[CODES], frame) == metrics.brier_score(TEXTS[CODES], PROBA)


def test_spaces_around_names_do_not_count():
    frame = pd.DataFrame(PROBA[:, ::-1], columns=["spam ", " news", " proba_ham "])
    assert metrics.brier_score(TEXTS[CODES], frame) == metrics.brier_score(TEXTS[CODES], PROBA)


def with_nothing_in(rows, values):
    out = values.astype(object)
    out[rows] = None
    return out


@pytest.mark.parametrize("rows", [[0, 1], [BAD]])
def test_rows_of_weight_zero_may_hold_anything(rows):
    weight = np.where(np.isin(np.arange(N), rows), 0.0, WEIGHT)
    keep = weight > 0
    y, proba, scores = (with_nothing_in(rows, one) for one in (TEXTS[CODES], PROBA, SCORES))
    assert metrics.brier_score(y, proba, sample_weight=weight) == pytest.approx(
        metrics.brier_score(TEXTS[CODES][keep], PROBA[keep], sample_weight=weight[keep])
    )
    metrics.calibration_noise_floor(proba, sample_weight=weight)
    found = CALIBRATORS["vector"]().fit(scores, y, weight).predict_proba(SCORES)
    expected = CALIBRATORS["vector"]().fit(SCORES[keep], TEXTS[CODES][keep], weight[keep])
    np.testing.assert_allclose(found, expected.predict_proba(SCORES))
    wrong = PROBA.copy()
    wrong[20] = np.nan
    assert_refused(
        lambda p: metrics.brier_score(y, p, sample_weight=weight),
        wrong,
        parameter=PROBA_NAMES,
        row=20,
    )


def test_a_class_that_labels_lack_is_known_by_its_column():
    y = np.where(CODES == 1, "ham", TEXTS[CODES])
    frame = pd.DataFrame(PROBA[:, [2, 0, 1]], columns=["spam", "ham", "news"])
    for call in ENTRIES.values():
        call(y, frame)
    assert metrics.brier_score(y, frame) == metrics.brier_score(y, PROBA, labels=TEXTS)


# -- weights and classes -------------------------------------------------------------------------

WEIGHT = 0.5 + np.arange(N) % 4
WEIGHTED = {
    **{
        name: lambda w, name=name: getattr(metrics, name)(TEXTS[CODES], PROBA, sample_weight=w)
        for name, _ in of_signature(metrics)
        if "sample_weight" in inspect.signature(getattr(metrics, name)).parameters
    },
    "ReviewPolicy": lambda w: ReviewPolicy(max_reviews=0.5).fit(TEXTS[CODES], PROBA, w).evidence_,
    "CalibrationReport": lambda w: CalibrationReport.from_predictions(
        TEXTS[CODES], PROBA, sample_weight=w
    ).to_dict(),
    "CalibrationMonitor": lambda w: (
        CalibrationMonitor(tolerance=0.2, drift=0.3, max_weight=9)
        .fit(TEXTS[CODES], PROBA, w)
        .summary()
    ),
    "calibrator": lambda w: (
        CALIBRATORS["vector"]().fit(SCORES, TEXTS[CODES], w).predict_proba(SCORES)
    ),
    "ReliabilityDisplay": lambda w: (
        display.ReliabilityDisplay.from_predictions(TEXTS[CODES], PROBA, sample_weight=w).curve
    ),
}
WEIGHTS = {
    "list": lambda w: w.tolist(),
    "objects": lambda w: w.astype(object),
    "pandas": lambda w: pd.Series(w, index=np.arange(N)[::-1]),
    "Float64": lambda w: pd.Series(w, dtype="Float64"),
    "Arrow": lambda w: pd.Series(w, dtype=arrow(pa.float64())),
    "polars": pl.Series,
    "pyarrow": pa.array,
}


@pytest.mark.parametrize("container", WEIGHTS)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_in_every_container(name, container):
    found = plain(WEIGHTED[name](WEIGHTS[container](WEIGHT)))
    assert found == result_of_arrays(f"{name}, weighted", WEIGHTED[name], WEIGHT)


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan, None, "1"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_that_cannot_be_used(name, value):
    weight = with_bad_row(WEIGHT, value)
    assert_refused(WEIGHTED[name], weight, parameter={"sample_weight"})


CLASSIFIED = {
    "brier_score": lambda c: metrics.brier_score(TEXTS[CODES], PROBA, labels=c),
    "ReviewPolicy": lambda c: (
        ReviewPolicy(max_reviews=0.5).fit(None, PROBA, classes=c).predict(PROBA)
    ),
    "PredictionSets": lambda c: (
        PredictionSets().fit(TEXTS[CODES], PROBA, classes=c).predict_labels(PROBA)
    ),
    "CalibrationMonitor": lambda c: CalibrationMonitor().fit(None, PROBA, classes=c).classes_,
    "CalibrationReport": lambda c: CalibrationReport.from_predictions(
        TEXTS[CODES], PROBA, labels=c
    ).to_dict(),
    "calibrator": lambda c: (
        CALIBRATORS["vector"]().fit(SCORES, TEXTS[CODES], classes=c).predict(SCORES)
    ),
}


@pytest.mark.parametrize(
    "container",
    [list, tuple, pd.Series, pd.Index, pd.Categorical, pl.Series, pa.array, string_dtype],
)
@pytest.mark.parametrize("name", CLASSIFIED)
def test_classes_in_every_container(name, container):
    found = plain(CLASSIFIED[name](container(TEXTS)))
    assert found == result_of_arrays(f"{name}, classified", CLASSIFIED[name], TEXTS)


@pytest.mark.parametrize("classes", [TEXTS[::-1], ["ham", "ham", "spam"], ["ham", None, "spam"]])
@pytest.mark.parametrize("name", CLASSIFIED)
def test_classes_that_cannot_be_used(name, classes):
    with pytest.raises(InvalidInput) as caught:
        CLASSIFIED[name](classes)
    assert caught.value.parameter in {"classes", "labels"}
