"""Where scikit-learn's own calibration fails, ours gives the right probabilities.

The traps are those of ``benchmarks/sklearn_traps.py``. What scikit-learn does is recorded, not
tested: it may change for the better.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout", allow_module_level=True)

spec = importlib.util.spec_from_file_location(
    "sklearn_traps", ROOT / "benchmarks" / "sklearn_traps.py"
)
traps = importlib.util.module_from_spec(spec)
sys.modules["sklearn_traps"] = traps
spec.loader.exec_module(traps)

_seen = {}


@pytest.fixture
def seen(request, record_property):
    """Run a trap, once for all tests of it."""
    trap = request.param
    if trap not in _seen:
        _seen[trap] = trap()
    record_property("scikit-learn", _seen[trap].theirs)
    return _seen[trap]


def of(*chosen):
    return pytest.mark.parametrize("seen", chosen, indirect=True, ids=lambda trap: trap.__name__)


def excess(seen):
    """How much the log-loss of our probabilities is above that of the truth."""
    best = log_loss(seen.data.y_new, seen.data.truth, labels=seen.data.labels)
    return log_loss(seen.data.y_new, seen.proba, labels=seen.data.labels) - best


@of(*traps.TRAPS.values())
def test_our_probabilities_are_probabilities(seen):
    assert seen.proba.shape == (len(seen.data.new), len(seen.data.labels))
    np.testing.assert_allclose(seen.proba.sum(axis=1), 1.0)
    assert (seen.proba > 0).all()


@of(*[trap for trap in traps.TRAPS.values() if trap is not traps.two_decimals])
def test_our_probabilities_are_nearly_the_truth(seen):
    assert abs(excess(seen)) < 0.02


@of(traps.two_decimals)
def test_rounding_costs_no_more_than_what_it_lost(seen):
    # It makes zeros of small probabilities, which no calibrator can undo.
    assert abs(excess(seen)) < 0.08


@of(traps.absent_class)
def test_a_class_without_rows_keeps_its_probability(seen):
    assert 3 not in seen.data.y
    unseen = seen.data.y_new == 3
    assert unseen.any()
    # On new rows the absent label comes as often as ours says.
    assert seen.proba[:, 2].mean() == pytest.approx(unseen.mean(), abs=0.05)


@of(traps.sigmoid_cap)
def test_a_sure_case_sails_through(seen):
    surest = seen.data.truth.max(axis=1) > 0.97
    right = seen.data.labels[seen.proba.argmax(axis=1)] == seen.data.y_new
    assert surest.sum() > 100
    assert right[surest].mean() > 0.97
    assert seen.proba.max(axis=1)[surest].mean() > 0.97


@of(traps.asks_per_row)
def test_every_row_is_asked_once_without_a_cache(seen):
    assert seen.ours == "1.00 to fit, 1.00 to predict"


@of(traps.two_decimals)
def test_rounded_scores_give_the_same_alone_and_together(seen):
    assert seen.ours.endswith(", 0.000")


@of(*traps.TRAPS.values())
def test_the_row_of_the_table_is_complete(seen):
    assert all([seen.measured, seen.theirs, seen.ours, seen.best])


def test_errors_are_told_in_a_line():
    def fail():
        raise ValueError("first\nsecond")

    assert traps.attempt(fail) == "ValueError: first"
    assert traps.attempt(lambda: "0.731") == "0.731"
