"""Policies, sets and matrices read labels and probabilities as everything else does."""

import numpy as np
import pandas as pd
import pytest

from skllm_calib.decisions import PredictionSets, ReviewPolicy, RiskMatrix, accept_threshold
from skllm_calib.exceptions import InvalidInput

CLASSES = ["ham", "news", "spam"]


def rows(size=300):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.3, 0.3, 0.3], size)
    return np.array([rng.choice(CLASSES, p=row) for row in proba]), proba


Y, PROBA = rows()
SHUFFLED = pd.DataFrame(PROBA, columns=CLASSES)[["spam", "ham", "news"]]
FITS = {
    "policy": ReviewPolicy(0.6).fit,
    "budget": ReviewPolicy(max_reviews=0.3).fit,
    "cost": ReviewPolicy(costs=10, review_cost=1).fit,
    "sets": PredictionSets().fit,
    "threshold": lambda y, proba: accept_threshold(y, proba, target_precision=0.6),
}


@pytest.fixture(params=list(FITS))
def fit(request):
    return FITS[request.param]


@pytest.mark.parametrize("proba", [PROBA, PROBA[:, 0], SHUFFLED, PROBA.tolist()])
def test_swapped_arguments_are_refused(fit, proba):
    with pytest.raises(InvalidInput, match=r"the order of arguments is \(y(_true)?, \w*proba\)"):
        fit(proba, Y)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_missing_label_is_refused(fit, missing):
    y = Y.astype(object)
    y[7] = missing
    with pytest.raises(InvalidInput, match="no label in row 7") as caught:
        fit(y, PROBA)
    assert caught.value.row == 7
    assert caught.value.parameter in ("y", "y_true")


def test_rows_that_are_no_probabilities_are_named(fit):
    proba = PROBA.copy()
    proba[11] = [0.5, 0.5, 0.5]
    with pytest.raises(InvalidInput, match="row 11") as caught:
        fit(Y, proba)
    assert caught.value.row == 11


def test_named_columns_are_taken_by_name():
    for policy in (ReviewPolicy(0.6), ReviewPolicy(max_reviews=0.3)):
        by_position = policy.fit(Y, PROBA).thresholds_.copy()
        assert policy.fit(Y, SHUFFLED).thresholds_.tolist() == by_position.tolist()
        assert policy.predict(SHUFFLED).tolist() == policy.predict(PROBA).tolist()
        assert policy.decide(SHUFFLED).tolist() == policy.decide(PROBA).tolist()
    unlabelled = ReviewPolicy(max_reviews=0.3).fit(None, SHUFFLED)
    assert unlabelled.classes_.tolist() == CLASSES
    sets = PredictionSets().fit(Y, SHUFFLED)
    assert np.array_equal(sets.predict_set(SHUFFLED), sets.predict_set(PROBA))
    assert accept_threshold(Y, SHUFFLED, target_precision=0.6) == accept_threshold(
        Y, PROBA, target_precision=0.6
    )
    impact = {"ham": "minor", "news": "moderate", "spam": "severe"}
    matrix = RiskMatrix.five_by_five(impact=impact)
    assert matrix.decide(SHUFFLED).tolist() == matrix.decide(PROBA).tolist()
    bare = RiskMatrix.five_by_five()
    assert bare.decide(SHUFFLED, impact).tolist() == matrix.decide(PROBA).tolist()


def test_a_matrix_is_kept_as_json(tmp_path):
    matrix = RiskMatrix.five_by_five(impact={"ham": "minor", "spam": "severe"}, event_class="spam")
    matrix.save(tmp_path / "matrix.json")
    assert RiskMatrix.load(tmp_path / "matrix.json") == matrix
    with pytest.raises(ValueError, match="This is not a saved RiskMatrix: it is not JSON"):
        RiskMatrix.from_json("{")


def test_costs_that_name_the_classes_in_another_order_are_refused():
    table = pd.DataFrame([[0, 1], [9, 0]], index=["no", "yes"], columns=["no", "yes"])
    p = [0.2, 0.9, 0.6]
    expected = (
        ReviewPolicy(costs=table.to_numpy(), review_cost=1)
        .fit(None, p, classes=["no", "yes"])
        .decide(p)
    )
    found = ReviewPolicy(costs=table, review_cost=1).fit(None, p, classes=["no", "yes"]).decide(p)
    assert found.tolist() == expected.tolist()
    for swapped in (table[["yes", "no"]], table.loc[["yes", "no"]]):
        with pytest.raises(InvalidInput, match=r"pass costs\.loc") as caught:
            ReviewPolicy(costs=swapped, review_cost=1).fit(None, p, classes=["no", "yes"])
        assert caught.value.parameter == "costs"
