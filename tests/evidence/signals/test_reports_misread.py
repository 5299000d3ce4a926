"""Replies that look like a report and are none: each was once read as one."""

from __future__ import annotations

import pytest

from skllm_calib.evidence.signals._reports import Names, read_answer, read_distribution, read_label
from skllm_calib.exceptions import UnreadableReply

LETTERED = Names(("A", "B"), ("spam", "not spam"))
BARE = Names((), ("ham", "spam"))
NO_YES = Names((), ("no", "yes"))


@pytest.mark.parametrize("read", [read_distribution, read_answer])
@pytest.mark.parametrize(
    "text",
    [
        "spam: 3 links, ham: 0 links",
        "spam - 2 links found\nham - 0 found",
        "Answer: spam (2 links)",
        "spam with 2 links",
        "Spam: 1. it has links",
        "spam is 70% less likely than ham",
        "ham: - 0.3",
    ],
)
def test_a_count_a_comparison_or_a_minus_is_no_probability(read, text):
    with pytest.raises(UnreadableReply):
        read(text, BARE)


def test_a_whole_number_with_words_of_probability_is_one():
    for text in ("spam: 70 confident", "Answer: spam\nConfidence: 70, because of the link"):
        assert read_answer(text, BARE).stated[1] == 0.7
    assert read_answer('{"answer": "spam (2 links)", "confidence": 0.9}', BARE).stated[1] == 0.9


@pytest.mark.parametrize("text", ["A) not spam", "A: not spam", "A, B", "Answer: A/B"])
def test_a_key_with_the_wording_of_another_class_is_no_label(text):
    with pytest.raises(UnreadableReply):
        read_label(text, LETTERED)


def test_a_row_with_a_key_and_the_wording_of_another_class_is_unreadable():
    with pytest.raises(UnreadableReply):
        read_distribution("A | not spam | 0.3", LETTERED)


def test_a_question_is_no_answer():
    with pytest.raises(UnreadableReply):
        read_label("spam or ham?", BARE)


@pytest.mark.parametrize("text", ["I have no idea", "no idea", "Answer: no idea"])
def test_no_idea_is_not_the_label_no(text):
    with pytest.raises(UnreadableReply):
        read_label(text, NO_YES)


def test_the_labels_yes_and_no_are_still_read():
    assert [read_label(t, NO_YES) for t in ("No, it is not.", "Answer: No", "Yes!")] == [0, 0, 1]


def test_the_quoted_beginning_has_at_most_200_characters_also_of_backslashes():
    with pytest.raises(UnreadableReply) as error:
        read_label("\\" * 1000 + "x" * 1000, BARE)
    assert len(str(error.value).partition("the reply is ")[2]) <= 202
