from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, hypergeom, kstest

from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.operations.queue.audit import Stratum, accepted_error, fewest_wrong, most_wrong
from skllm_calib.operations.queue.rows import audit_draw


def row(name, action="accept"):
    return {"id": name, "text": "t", "proba": [0.05, 0.95], "action": action}


def audited(queue):
    return {found["id"] for found in queue.waiting() if found["audit"]}


def test_the_draw_depends_on_the_id_alone(tmp_path):
    rows = [row(f"row {i}") for i in range(400)]
    one = ReviewQueue(tmp_path / "one", classes=["n", "y"], audit_share=0.2)
    one.add(rows)
    other = ReviewQueue(tmp_path / "other", classes=["n", "y"], audit_share=0.2)
    for start in range(0, 400, 37):
        other.add([*reversed(rows[start : start + 37]), row(f"other {start}", "review")])
    assert audited(one) == audited(other)
    wider = ReviewQueue(tmp_path / "wider", classes=["n", "y"], audit_share=0.4)
    wider.add(rows)
    assert audited(one) < audited(wider)


def test_the_draw_is_uniform():
    draws = np.array([audit_draw(str(i)) for i in range(20_000)])
    assert kstest(draws, "uniform").pvalue > 1e-4
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_or_all(tmp_path, share):
    queue = ReviewQueue(tmp_path / "q", classes=["n", "y"], audit_share=share)
    queue.add([row(i) for i in range(50)])
    assert len(audited(queue)) == 50 * share
    for i in range(50):
        queue.add_label(i, "n" if i < 5 else "y", reviewer="A")
    error = queue.accepted_error()
    if share:  # all are known
        assert error.estimate == error.lower == error.upper == pytest.approx(0.1)
    else:
        assert math.isnan(error.estimate)
        assert (error.lower, error.upper, error.n_audited) == (0, 1, 0)
        assert "Nothing is known about the 50 accepted rows" in str(error)


def test_the_figures(tmp_path):
    queue = ReviewQueue(tmp_path / "q", classes=["n", "y"], audit_share=0.5)
    assert math.isnan(queue.accepted_error().estimate)
    queue.add([row(i) for i in range(60)])
    names = [found["id"] for found in queue.waiting()]
    for name in names[:12]:
        queue.add_label(name, "n" if name in names[:2] else "y", reviewer="A")
    queue.add_label(names[5], "n", reviewer="B")
    error = queue.accepted_error(confidence=0.9)
    assert (error.n_accepted, error.n_audited, error.n_wrong, error.n_disputed) == (60, 12, 2, 1)
    assert error.n_waiting == len(names) - 12
    assert error.estimate == pytest.approx(3 / 12)
    assert error.lower == fewest_wrong(60, 12, 2, 0.05) / 60
    assert error.upper == most_wrong(60, 12, 3, 0.05) / 60
    text = str(error)
    assert text.startswith("25.00% of 60 accepted rows are wrong, between")
    assert f"1 disputed; {len(names) - 12} more wait" in text
    with pytest.raises(ValueError, match=r"confidence must be a number in \(0, 1\), got 1"):
        queue.accepted_error(confidence=1)


def test_the_ends_invert_the_test():
    for n_rows, n, k in [(50, 10, 0), (50, 10, 3), (50, 10, 10), (200, 60, 7), (7, 7, 2)]:
        upper, lower = most_wrong(n_rows, n, k, 0.05), fewest_wrong(n_rows, n, k, 0.05)
        possible = [m for m in range(n_rows + 1) if k <= m <= n_rows - n + k]
        assert upper == max(m for m in possible if hypergeom.cdf(k, n_rows, m, n) > 0.05)
        assert lower == min(m for m in possible if hypergeom.sf(k - 1, n_rows, m, n) > 0.05)


def test_coverage_is_exact_for_every_number_of_wrong_rows():
    n_rows, n, tail = 40, 12, 0.05
    ends = [
        (fewest_wrong(n_rows, n, k, tail), most_wrong(n_rows, n, k, tail)) for k in range(n + 1)
    ]
    for m in range(n_rows + 1):
        p = hypergeom.pmf(np.arange(n + 1), n_rows, m, n)
        covered = sum(p[k] for k, (low, high) in enumerate(ends) if low <= m <= high)
        assert covered >= 1 - 2 * tail - 1e-12


def test_a_share_that_changed_is_weighted(tmp_path):
    """Pooling would say 30 of 150; with weights, every period counts by its rows."""
    strata = [Stratum(0.1, 900, 100, 100, 30, 0), Stratum(0.5, 100, 50, 50, 0, 0)]
    error = accepted_error(strata, 0.95)
    assert error.estimate == pytest.approx((900 * 0.3 + 0) / 1000)
    assert error.lower <= error.estimate <= error.upper
    # A period of which nothing is known widens the interval by all of its rows.
    wider = accepted_error([*strata, Stratum(0.0, 1000, 0, 0, 0, 0)], 0.95)
    assert wider.upper == pytest.approx((error.upper * 1000 + 1000) / 2000)
    assert wider.lower == pytest.approx(error.lower / 2)


def test_unbiased_and_covering_in_simulation(tmp_path):
    """Two periods of other quality and other shares; only the ids, and so the draws, vary."""
    n_draws, sizes, shares, n_wrong = 600, (300, 200), (0.1, 0.4), (60, 10)
    truth = sum(n_wrong) / sum(sizes)
    estimates, covered, naive = [], 0, []
    for draw in range(n_draws):
        strata = []
        for period, (size, share, bad) in enumerate(zip(sizes, shares, n_wrong, strict=True)):
            hit = np.array([audit_draw(f"{draw}/{period}/{i}") < share for i in range(size)])
            strata.append(Stratum(share, size, hit.sum(), hit.sum(), hit[:bad].sum(), 0))
        error = accepted_error(strata, 0.9)
        estimates.append(error.estimate)
        naive.append(error.n_wrong / error.n_audited)
        covered += error.lower <= truth <= error.upper
    noise = np.std(estimates) / math.sqrt(n_draws)
    assert abs(np.mean(estimates) - truth) < 4 * noise
    assert abs(np.mean(naive) - truth) > 20 * noise
    assert covered >= binom.ppf(1e-4, n_draws, 0.9)


def test_unbiased_through_the_queue_with_half_of_the_sample_labelled(tmp_path):
    """The wrong rows are the most doubtful ones; working in the queue's order must not matter."""
    found = []
    for draw in range(30):
        queue = ReviewQueue(tmp_path / str(draw), classes=["n", "y"], audit_share=0.5)
        queue.add(
            [
                row(f"{draw}/{i}") | {"proba": [0.2, 0.8] if i % 5 == 0 else [0.01, 0.99]}
                for i in range(100)
            ]
        )
        n_half = queue.statistics().n_waiting // 2
        sheet = tmp_path / "labels.csv"
        lines = [
            f"{r['id']},{'n' if int(r['id'].split('/')[1]) % 5 == 0 else 'y'}"
            for r in queue.waiting(n_half)
        ]
        sheet.write_text("\n".join(["id,label", *lines]))
        queue.read_labels(sheet, reviewer="A")
        found.append(queue.accepted_error().estimate)
    assert abs(np.mean(found) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / (30 * 25))
