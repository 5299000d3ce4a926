import pickle

import numpy as np
import pytest
from scipy.stats import binom

from skllm_calib.decisions import AcceptThreshold, accept_threshold
from skllm_calib.exceptions import NotCertifiableError

BINARY = [0, 1]


def flawless(n_rows):
    return np.ones(n_rows, dtype=int), np.linspace(0.999, 0.6, n_rows)


def test_99_percent_takes_299_rows_without_an_error():
    result = accept_threshold(*flawless(299), labels=BINARY)
    assert (result.n_accepted, result.n_errors, result.coverage) == (299, 0, 1.0)
    assert result.threshold == 0.6
    assert result.precision_lower_bound == pytest.approx(0.05 ** (1 / 299))
    for n_rows in (298, 200):
        with pytest.raises(NotCertifiableError, match=f"these {n_rows} labels") as caught:
            accept_threshold(*flawless(n_rows), labels=BINARY)
        assert caught.value.n_more == 299 - n_rows
        assert f"about {299 - n_rows} more needed" in str(caught.value)


@pytest.mark.parametrize(("target", "needed"), [(0.98, 149), (0.95, 59), (0.9, 29)])
def test_other_targets(target, needed):
    assert accept_threshold(*flawless(needed), target_precision=target, labels=BINARY).coverage == 1
    with pytest.raises(NotCertifiableError):
        accept_threshold(*flawless(needed - 1), target_precision=target, labels=BINARY)


def test_result():
    y, p = flawless(1000)
    y[800:] = 0
    result = accept_threshold(y, p, target_precision=0.95, labels=BINARY)
    stated = np.maximum(p, 1 - p)
    assert (stated >= result.threshold).sum() == result.n_accepted
    assert ((stated >= result.threshold) & (y == 0)).sum() == result.n_errors
    assert 0.8 <= result.coverage < 0.85
    assert result.precision_lower_bound >= 0.95
    assert (result.n_labels, result.target_precision, result.confidence) == (1000, 0.95, 0.95)
    assert "of 1000 rows" in repr(result)
    assert pickle.loads(pickle.dumps(result)) == result
    assert isinstance(result, AcceptThreshold)
    with pytest.raises(AttributeError):
        result.threshold = 0.1


def test_ties_are_accepted_together_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    p = np.repeat([0.95, 0.8, 0.6], [150, 150, 100])
    y = (rng.random(400) < np.repeat([0.999, 0.8, 0.5], [150, 150, 100])).astype(int)
    result = accept_threshold(y, p, target_precision=0.95)
    assert (result.threshold, result.n_accepted) == (0.95, 150)
    order = rng.permutation(400)
    assert accept_threshold(y[order], p[order], target_precision=0.95) == result


def test_matrix_and_text_labels():
    y, p = flawless(300)
    names = np.array(["ham", "spam"])[y]
    both = np.column_stack([1 - p, p])
    one = accept_threshold(names, p, labels=["ham", "spam"])
    assert accept_threshold(names, both, labels=["ham", "spam"]) == one


def test_errors_raise_the_number_of_labels_needed():
    y, p = flawless(400)
    y[[250, 290, 350, 390]] = 0
    with pytest.raises(NotCertifiableError, match="2 of the 299 most confident rows") as caught:
        accept_threshold(y, p, labels=BINARY)
    assert caught.value.n_more is not None
    # The advice works when the new labels look like the old ones.
    copies = -(-(400 + caught.value.n_more) // 400)
    again = accept_threshold(np.tile(y, copies), np.tile(p, copies), labels=BINARY)
    assert again.n_accepted > 0


def test_an_early_error_does_not_condemn_the_model():
    y, p = flawless(400)
    y[5] = 0  # 19 of the 20 most confident rows are right, and 399 of all 400
    with pytest.raises(NotCertifiableError) as caught:
        accept_threshold(y, p, labels=BINARY)
    assert 0 < caught.value.n_more < 2000


def test_many_labels_start_the_search_at_a_share_of_them():
    y, p = flawless(20_000)
    y[[1, 2, 3]] = 0  # too many for 628 rows, not for 1,000
    assert accept_threshold(y, p, labels=BINARY).coverage == 1


def test_a_weak_model_is_told_that_labels_do_not_help():
    y, p = flawless(300)
    y[::10] = 0
    with pytest.raises(NotCertifiableError, match="more labels would not help") as caught:
        accept_threshold(y, p, labels=BINARY)
    assert caught.value.n_more is None
    with pytest.raises(NotCertifiableError, match="more labels would not help"):
        accept_threshold(y[:4] * 0, p[:4], labels=BINARY)


def test_the_promise_is_kept():
    rng = np.random.default_rng(0)
    target, risk, draws = 0.9, 0.1, 1500
    broken = certified = 0
    for _ in range(draws):
        # Over-confident: the precision above t, (0.45 + 0.55 * t) averaged over [t, 1], is known.
        p = rng.uniform(0.5, 1, 300)
        y = (rng.random(300) < 0.45 + 0.55 * p).astype(int)
        try:
            result = accept_threshold(
                y, p, target_precision=target, confidence=1 - risk, labels=BINARY
            )
        except NotCertifiableError:
            continue
        certified += 1
        broken += 0.45 + 0.55 * (1 + result.threshold) / 2 < target
    assert certified > draws / 2
    assert broken <= binom.ppf(0.999, draws, risk)


@pytest.mark.parametrize(
    "options", [{"target_precision": 1}, {"confidence": 0}, {"n_thresholds": 0}]
)
def test_wrong_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        accept_threshold(*flawless(300), labels=BINARY, **options)
