from __future__ import annotations

import csv
import itertools
import re
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import skllm_calib
from skllm_calib.datasets import load_messages
from skllm_calib.exceptions import MissingDependency

LABELS = ["negative", "positive"]
COUNTS = {"negative": 423, "positive": 342}
FOLDER = resources.files("skllm_calib.datasets")


@pytest.fixture(scope="module")
def messages():
    return load_messages()


def words(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.sub(r"[^\w\s]", "", text.casefold()).split()


def test_counts_and_labels(messages):
    assert len(messages.data) == len(messages.target) == sum(COUNTS.values()) >= 720
    assert messages.target_names == LABELS
    assert Counter(messages.target.tolist()) == COUNTS


def test_classes_are_a_little_unequal(messages):
    share = np.mean(messages.target == "negative")
    assert 0.54 <= share <= 0.61


def test_order_is_shuffled(messages):
    negative = messages.target == "negative"
    blocks = [block.mean() for block in np.array_split(negative, 5)]
    assert max(blocks) - min(blocks) < 0.2
    changes = np.count_nonzero(negative[1:] != negative[:-1])
    assert 0.4 < changes / len(negative) < 0.6  # neither sorted nor alternating


def test_no_duplicates(messages):
    assert len(set(messages.data)) == len(messages.data)
    bare = [" ".join(words(text)) for text in messages.data]
    assert [text for text, n in Counter(bare).items() if n > 1] == []


def test_no_near_duplicates(messages):
    bags = [frozenset(words(text)) for text in messages.data]
    close = [
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(bags), 2)
        if len(a & b) > 0.5 * len(a | b)
    ]
    assert close == []


def test_no_phrase_is_used_over_and_over(messages):
    counts: Counter[tuple[str, ...]] = Counter()
    for text in messages.data:
        tokens = words(text)
        counts.update({tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)})
    assert counts.most_common(1)[0][1] <= 3


def test_lengths(messages):
    lengths = np.array([len(text.split()) for text in messages.data])
    assert lengths.min() == 3
    assert lengths.max() == 44
    assert not (lengths > 60).any()
    for label in LABELS:  # the length alone is not to give the label away
        assert 12 < lengths[messages.target == label].mean() < 18


def test_texts_are_clean_strings(messages):
    for text in messages.data:
        assert isinstance(text, str)
        assert text == text.strip()
        assert text.isprintable()
        assert "  " not in text
        assert "\N{REPLACEMENT CHARACTER}" not in text


@pytest.mark.parametrize(
    "pattern",
    [
        r"\S+@\S+",  # e-mail addresses
        r"https?://|www\.",
        r"\+\d|(?<![\d,.])00\d",  # international phone numbers
        r"\d(?:[\s().\-/]?\d){6,}",  # seven digits or more, however grouped
        r"\b[A-Z]{2}\d{2}\s?\d{4}",  # bank accounts
    ],
)
def test_no_personal_data(messages, pattern):
    assert [text for text in messages.data if re.search(pattern, text)] == []


def test_personal_data_patterns_would_match():
    assert re.search(r"\d(?:[\s().\-/]?\d){6,}", "ring me on 020 7946 0958")


def test_file_format():
    raw = FOLDER.joinpath("messages.csv").read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    assert not raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(raw.decode("utf-8").splitlines(), strict=True))
    assert rows[0] == ["text", "label"]
    assert {len(row) for row in rows} == {2}
    assert len(rows) == 1 + sum(COUNTS.values())


def test_bunch(messages):
    assert isinstance(messages.data, list)
    assert isinstance(messages.target, np.ndarray)
    assert messages.target.dtype.kind == "U"
    assert messages.target.shape == (len(messages.data),)
    assert messages.frame is None
    assert messages.filename == "messages.csv"
    assert messages.data_module == "skllm_calib.datasets"
    assert Path(skllm_calib.__file__).with_name("datasets").joinpath(messages.filename).is_file()


def test_card_agrees_with_the_data(messages):
    card = messages.DESCR
    assert card == FOLDER.joinpath("messages.md").read_text(encoding="utf-8")
    prose = " ".join(card.split())
    assert "with the aid of a large language model, and not collected from customers" in prose
    assert "BSD-3-Clause" in card
    assert str(len(messages.data)) in card
    for label, n in COUNTS.items():
        assert re.search(rf"\| `{label}` *\| *{n} ", card)


def test_return_X_y(messages):
    X, y = load_messages(return_X_y=True)
    assert messages.data == X
    np.testing.assert_array_equal(y, messages.target)


def test_every_call_returns_its_own_data(messages):
    X, y = load_messages(return_X_y=True)
    X[0] = y[0] = "x"
    assert load_messages().data[0] == messages.data[0]
    assert load_messages().target[0] == messages.target[0]


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError):
        load_messages(True)


def test_as_frame(messages):
    pd = pytest.importorskip("pandas")
    bunch = load_messages(as_frame=True)
    assert isinstance(bunch.frame, pd.DataFrame)
    assert list(bunch.frame.columns) == ["text", "label"]
    assert bunch.data.name == "text"
    assert bunch.target.name == "label"
    assert bunch.data.tolist() == messages.data
    assert bunch.target.tolist() == messages.target.tolist()
    assert bunch.target_names == LABELS


def test_as_frame_return_X_y(messages):
    pd = pytest.importorskip("pandas")
    X, y = load_messages(return_X_y=True, as_frame=True)
    assert isinstance(X, pd.Series)
    assert isinstance(y, pd.Series)
    assert X.tolist() == messages.data
    assert y.tolist() == messages.target.tolist()


def test_missing_pandas_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match=r"skllm-calib\[tables\]"):
        load_messages(as_frame=True)
    assert len(load_messages().data) == sum(COUNTS.values())  # pandas is not needed otherwise
