from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.evidence.examples import select_examples

TEXTS = [f"text {i}" for i in range(30)]
CODES = np.arange(30) % 3


def chosen(order=None, seed=0, n_shots=4):
    order = np.arange(30) if order is None else order
    picked = select_examples([TEXTS[i] for i in order], CODES[order], 3, n_shots, seed)
    return [int(order[i]) for i in picked]


def test_balanced_and_in_turns():
    codes = [int(CODES[i]) for i in chosen()]
    assert codes == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert len(set(chosen())) == 12


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_does_not_matter_but_the_seed_does(seed):
    order = np.random.default_rng(seed).permutation(30)
    assert chosen(order) == chosen()
    assert chosen(seed=seed) != chosen()


def test_repetition_does_not_matter():
    texts, codes = TEXTS + TEXTS[:9] * 5, np.concatenate([CODES, *[CODES[:9]] * 5])
    assert select_examples(texts, codes, 3, 4, 0) == chosen()


def test_more_shots_keep_the_first_ones():
    assert chosen(n_shots=2) == chosen(n_shots=4)[:6]


def test_empty_texts_and_classes_without_rows():
    picked = select_examples(["", "a", " ", "b"], np.array([0, 0, 2, 2]), 3, 5, 0)
    assert picked == [1, 3]
    assert select_examples(TEXTS, CODES, 3, 0, 0) == []


def test_half_a_character():
    assert select_examples(["\ud800"], np.array([0]), 1, 1, 0) == [0]
