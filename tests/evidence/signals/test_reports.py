"""What a model says about its own probabilities, in every form it may say it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skllm_calib.evidence.signals._reports import (
    Names,
    read_answer,
    read_distribution,
    read_guesses,
    read_label,
)
from skllm_calib.exceptions import UnreadableReply

LETTERED = Names(("A", "B"), ("spam", "not spam"))
BARE = Names((), ("ham", "spam"))
RECORDED = (
    Path(__file__).parents[3] / "../shared/data/recorded/deductive_coding_3llms_10runs.parquet"
)
READERS = [read_distribution, read_guesses, read_answer, read_label]


def stated(text, names=LETTERED):
    return read_distribution(text, names).stated


def approx(*values):
    return pytest.approx(list(values), nan_ok=True, abs=1e-12)


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        # objects, with what stands around them
        '{"A": 0.3, "B": 0.7}',
        '```json\n{"A": 0.3, "B": 0.7}\n```',
        '```\n{"A": 0.3, "B": 0.7}\n```\nThe link {gives} it away: {x}.',
        'Sure, here you go:\n\n{"A": 0.3, "B": 0.7}\n\nLet me know [if] that helps.',
        '{"A": 0.9, "B": 0.1} No, wait: {"A": 0.3, "B": 0.7}',
        '{"A": 0.3, "B": 0.7}\n{"tokens": 12}',
        '["x", {"A": 0.3, "B": 0.7}]',
        '{"reason": "a \\"quoted\\" {brace}", "A": 0.3, "B": 0.7}',
        '{"reason": "say "A": well", "A": 0.3, "B": 0.7}',
        # objects that are not quite JSON
        "{'A': 0.3, 'B': 0.7}",
        "{'why': 'it's free', 'A': 0.3, 'B': 0.7}",
        '{"A": 0.3, "B": 0.7,}',
        "{A: 0.3, B: 0.7}",
        '{"A": 0.3 "B": 0.7}',
        '{"A": 0.3, // low\n "B": 0.7}',
        "{“A”: 0.3, “B”: 0.7}",
        '{"A": .3, "B": .7}',
        '{"A": 30%, "B": 70%}',
        '{"A": 0,3, "B": 0,7}',
        '{"A": 3/10, "B": 7/10}',
        '{\n"A" : 0.3,\n"B"\n: 0.7\n}',
        # objects within objects, lists of objects
        '{"probabilities": {"A": 0.3, "B": 0.7}}',
        '{"result": {"options": [{"A": 0.3}, {"B": 0.7}]}}',
        '{"A": {"probability": 0.3, "why": "no link"}, "B": {"probability": 0.7}}',
        '{"A": [0.3], "B": [0.7]}',
        '[{"label": "spam", "probability": 0.3}, {"label": "not spam", "probability": 0.7}]',
        '{"predictions": [{"class": "A", "confidence": 30}, {"class": "B", "confidence": 70}]}',
        "[{'option': 'A', 'p': '30%'}, {'option': 'B', 'p': '70%'},]",
        '{"options": [["x"], {"option": "A", "score": 0.3}, {"option": "B", "score": 0.7}]}',
        # names
        '{"a": 0.3, "b": 0.7}',
        '{"A)": 0.3, "(B)": 0.7}',
        '{"Option A": 0.3, "**B**": 0.7}',
        '{"A) spam": 0.3, "B) not spam": 0.7}',
        '{"SPAM": 0.3, "Not_Spam": 0.7}',
        '{"spam": 0.3, "not-spam": 0.7}',
        '{"P(spam)": 0.3, "P(not spam)": 0.7}',
        '{"spam_probability": 0.3, "not_spam_probability": 0.7}',
        '{"A": 0.3, "B": 0.7, "spam": 0.3}',
        '{"A": 0.3, "B": 0.7, "total": 1.0, "C": 0.0}',
        # numbers
        '{"A": "0,3", "B": "0,7"}',
        '{"A": "30 of 100", "B": "7/10"}',
        '{"A": 30, "B": 70}',
        '{"A": 3e-1, "B": "7e-1"}',
        '{"A": "20-40%", "B": "0.6 to 0.8"}',
        '{"A": "about 30%", "B": "likely"}',
        # lines
        "A: 0.3\nB: 0.7",
        "spam: 30%\nnot spam: 70%",
        "- spam = .3\n- not spam = .7",
        "* **spam**: 30 %\n* **not spam**: 70 %",
        "1. spam: 0.3\n2. not spam: 0.7",
        "1) A - 30%\n2) B - 70%",
        "Probabilities:\n  A) spam: 0.3\n  B) not spam: 0.7\nI hope this helps.",
        "A (30%)\nB (70%)",
        "A -> 0.3\nB -> 0.7",
        "spam 0.3\nnot spam 0.7",
        "P(spam) = 0.3\nP(not spam) = 0.7",
        "P(A): 30%, P(B): 70%",
        "Probability (spam): 0.3; probability (not spam): 0.7",
        "probability of spam is 0.3\nprobability of not spam is 0.7",
        "A: 30%, B: 70%",
        "A: 30, B: 70",
        "A = 30% | B = 70%",
        "A: 30% / B: 70%",
        "A: 0.3 (no link)\nB: 0.7 (a friend)",
        "A：３０％\nB：７０％",
        "Ａ：0.3\nＢ：0.7",
        # tables
        "| Label | Probability |\n|---|---:|\n| spam | 0.3 |\n| not spam | 0.7 |",
        "Option | Label | p\n--- | --- | ---\nA | spam | 30%\nB | not spam | 70%",
        "| **A** | 30% |\n| **B** | 70% |",
        "spam\t0.3\nnot spam\t0.7",
        # thoughts
        '<think>{"A": 1, "B": 0}</think>{"A": 0.3, "B": 0.7}',
        "<THINKING>A: 1\nB: 0</THINKING>\nA: 0.3\nB: 0.7",
        'A: 1, B: 0</think>{"A": 0.3, "B": 0.7}',
        '{"A": 0.3, "B": 0.7}<think>or rather {"A": 1, "B": 0}',
    ],
)
def test_every_form_says_the_same(text):
    assert stated(text) == approx(0.3, 0.7)


def test_what_is_passed_over_is_nan_and_nothing_is_normalised():
    nan = float("nan")
    assert stated('{"A": 0.3}') == approx(0.3, nan)
    assert stated('{"A": null, "B": 0.7}') == approx(nan, 0.7)
    assert stated('{"A": "n/a", "B": 0.7}') == approx(nan, 0.7)
    assert stated("A: 0.9\nB: 0.8") == approx(0.9, 0.8)
    assert stated("A: 0\nB: 0.2") == approx(0.0, 0.2)


def test_percent_and_share_are_told_apart_by_the_whole_report():
    assert stated('{"A": 99, "B": 1}') == approx(0.99, 0.01)
    assert stated('{"A": 1, "B": 0}') == approx(1.0, 0.0)
    assert stated('{"A": "1%", "B": 0.99}') == approx(0.01, 0.99)


def test_the_answer_beside_the_numbers_is_told():
    report = read_distribution('{"A": 0.3, "B": 0.7, "answer": "B"}', LETTERED)
    assert (report.answer, list(report.stated)) == (1, [0.3, 0.7])
    assert read_distribution('{"A": 0.3, "B": 0.7}', LETTERED).answer is None


def test_numbered_keys_are_not_mixed_up():
    names = Names(("1", "2", "10"), ("x", "y", "z"))
    assert stated('{"1": 0.1, "2": 0.2, "10": 0.7}', names) == approx(0.1, 0.2, 0.7)
    assert stated("10: 0.7\n1: 0.1\n2: 0.2", names) == approx(0.1, 0.2, 0.7)


def test_labels_named_like_fields_are_labels_where_a_number_is_said_of_them():
    names = Names((), ("answer", "chance"))
    assert stated('{"answer": 0.3, "chance": 0.7}', names) == approx(0.3, 0.7)


@pytest.mark.parametrize(
    "text",
    [
        "G1: spam\nP1: 0.7\nG2: ham\nP2: 0.2",
        "Guess 1: spam\nProbability 1: 70%\nGuess 2: ham\nProbability 2: 20%",
        '{"G1": "spam", "P1": 0.7, "G2": "ham", "P2": 0.2}',
        '{"guesses": [{"label": "spam", "prob": 0.7}, {"label": "ham", "prob": 0.2}]}',
        '{"label": "spam", "probability": 0.7}\n{"label": "ham", "probability": 0.2}',
        '{"label": "spam", "probability": 0.7}, {"label": "ham", "probability": 0.2}',
        "1. spam (70%)\n2. ham (20%)",
        "1. spam - 0.7\n2. ham - 0.2",
    ],
)
def test_guesses_in_every_form(text):
    assert read_guesses(text, BARE).stated == approx(0.2, 0.7)


@pytest.mark.parametrize("between", ["No, wait:", "\n\n```\n"])
def test_a_guess_that_was_taken_back_does_not_count(between):
    first, last = '{"label": "ham", "p": 0.2}', '{"label": "spam", "p": 0.7}'
    report = read_guesses(first + between + last, BARE)
    assert report.stated == approx(float("nan"), 0.7)


def test_of_two_objects_on_one_guess_the_last_counts():
    text = '{"label": "spam", "p": 0.2}\n{"label": "spam", "p": 0.7}'
    assert read_guesses(text, BARE).stated == approx(float("nan"), 0.7)


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "B", "confidence": 0.7}',
        '{"option": "B", "probability": 0.7}',
        '{"finalAnswer": "B) not spam", "confidence_score": "70%"}',
        '{"Label": "NOT SPAM", "CONFIDENCE": 70}',
        '{"sort": "not spam", "confidence": 0.7}',
        '{"result": {"answer": "B", "confidence": 0.7}}',
        '{"answer": "A", "confidence": 0.9}\n{"answer": "B", "confidence": 0.7}',
        "Answer: B\nConfidence: 70%",
        "**Answer:** B) not spam\n**Confidence:** 0.7",
        "My final answer: not spam. \nConfidence: likely",
        "B (70%)",
        "not spam, 0.7",
        "not spam: 70%",
        "B\n70%",
        "The answer is B with 70% confidence.",
        "| Answer | B |\n| Confidence | 70% |",
        "<think>Answer: A, 90%</think>Answer: B\nConfidence: 7/10",
    ],
)
def test_answers_in_every_form(text):
    report = read_answer(text, LETTERED)
    assert report.answer == 1
    assert report.stated == approx(float("nan"), 0.7)


def test_the_likeliest_label_is_the_answer_where_none_is_named():
    report = read_answer('{"A": 0.3, "B": 0.7}', LETTERED)
    assert (report.answer, list(report.stated)) == (1, [0.3, 0.7])


@pytest.mark.parametrize(
    ("text", "k"),
    [
        *(("B", 1), ("b", 1), ("(B)", 1), ("**B**", 1), ('"B"', 1), ("B) not spam", 1), ("B.", 1)),
        *(("not spam", 1), ("Not-Spam.", 1), ("NOT_SPAM", 1), ("spam", 0), ("A", 0), ("A\n", 0)),
        *(("Answer: B", 1), ("The answer is B.", 1), ("I would choose B.", 1), ("Label: spam", 0)),
        *(('{"answer": "B"}', 1), ('{"option": "A"}', 0), ("```json\n{'label': 'spam'}\n```", 0)),
        *(("This is spam.", 0), ("This is not spam.", 1), ("A message that is spam", 0)),
        *(
            ("A\nAnswer: A", 0),
            ("spam, that is A) spam", 0),
            ("A: 0.9", 0),
            ("<think>B</think>A", 0),
        ),
        *(('{"A": 0.9}', 0), ("Ｂ", 1), ("A: 90%\n", 0)),
    ],
)
def test_one_label(text, k):
    assert read_label(text, LETTERED) == k


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "  \n",
            "hello",
            "{}",
            "[]",
            "null",
            "{",
            "C",
            "eggs: 0.7",
            '{"eggs": 1.0}',
            "<think>A",
        ),
        "<think>A: 0.3, B: 0.7",
        "<think>A: 0.3, B: 0.7</think>",
        "I cannot help with that request.",
        "I'm sorry, but I can't classify this message as spam or not spam.",
        "As an AI I have no opinion on whether this is spam.",
        "A message like this would need more context.",
        '{"error": "I cannot tell."}',
        '{"A": 0.3, "B": 0.7, "A": 0.5',  # cut off
        '{"answer": "A", "confidence": 0.',
        '{"answer": "C", "confidence": 0.9}',
        "Answer: eggs\nConfidence: 90%",
        "Answer: A\nAnswer: B\nConfidence: 90%",
        "70%",
        "0.7",
    ],
)
def test_what_says_nothing_of_a_label_is_unreadable(read, text):
    with pytest.raises(UnreadableReply):
        read(text, LETTERED)


@pytest.mark.parametrize("read", [read_distribution, read_guesses, read_answer])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Answer: A", "no number"),
        ("spam", "no number"),
        ('{"answer": "A", "confidence": "high"}', "no number"),
        ('{"A": true, "B": false}', "no number"),
        ('{"A": "0.3 or 0.5"}', "no number"),
        ('{"A": 0.3, "B": 0.7} or rather {"A": ...}', "no number"),
        ('{"A": 0.3, "B": 0.7} or rather {"A": 0.5, "B"', "cut off"),
        ('{"A": 0.3, "B": "not spam"}', "said of 'not spam' is no number"),
        ('{"A": -0.1, "B": 0.5}', "'-0.1' is no probability"),
        ("A: -5%", "'-5%' is no probability"),
        ('{"A": 120, "B": 3}', "'120' is no probability"),
        ("A: 100.5%\nB: 0%", "'100.5%' is no probability"),
        ('{"A": NaN, "B": 1}', "'NaN' is no probability"),
        ('{"A": Infinity, "B": 1}', "'Infinity' is no probability"),
        ('{"A": 1e999, "B": 1}', "'1e999' is no probability"),
        ("A: 0.3/0.7", "is no probability"),
        ('{"A": 0.3, "A": 0.5}', "'spam' has different numbers"),
        ('{"A": 0.3, "spam": 0.5}', "'spam' has different numbers"),
        ("A: 0.3\nB: 0.7\nA: 0.5", "'spam' has different numbers"),
        ('{"answer": "A", "probability": 0.7, "confidence": 0.5}', "'spam' has different numbers"),
        ('{"A": 0, "B": 0}', "all numbers are 0"),
        ("A: 0%\nB: 0.0", "all numbers are 0"),
        ('{"answer": "A", "label": "B", "A": 0.5, "B": 0.4}', "different answers are named"),
        ("The words, spam, 70%, stand in it", "no label is named"),
        ('{"A": 0.3, "B": 0.7', "cut off"),
        ('```json\n{"result": {"A": 0.3', "cut off"),
        ('{"answer": "eggs", "confidence": 0.9}', "outside the list"),
        (
            '[{"label": "eggs", "probability": 0.8}, {"label": "spam", "probability": 0.1}]',
            "likeliest answer is outside the list",
        ),
    ],
)
def test_what_says_no_probability_is_unreadable(read, text, why):
    with pytest.raises(UnreadableReply, match=why):
        read(text, LETTERED)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"A": 0.5, "B": 0.5}', "several labels have the highest"),
        ('{"answer": "A", "B": 0.7}', "no probability is given for the answer 'spam'"),
    ],
)
def test_an_answer_that_is_none_is_unreadable(text, why):
    with pytest.raises(UnreadableReply, match=why):
        read_answer(text, LETTERED)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("This is not spam.", BARE),  # no vote for "spam", nor for anything else
        ("It isn't ham", BARE),
        ("Is this spam? No.", BARE),
        ("Spam is unlikely.", BARE),
        ("I am unable to label this as spam.", BARE),
        ("It is ham or spam.", BARE),
        ("spam\nham", BARE),
        ('{"ham": 0.5, "spam": 0.5}', BARE),
        ('{"ham": 0.3, "spam": 0.7}', BARE),  # a distribution was not asked for
        ("spam: 30%", BARE),
        ('{"spam": "high"}', BARE),
        ("It is spam or not spam", LETTERED),
        ("A message.", LETTERED),
        ("a dog", LETTERED),
        ("There are 10 reasons", Names(("1", "10"), ("x-ray", "yak"))),
        ("100", Names(("1", "10"), ("x-ray", "yak"))),
    ],
)
def test_no_label_or_several_is_unreadable(text, names):
    with pytest.raises(UnreadableReply, match=r"label|answer"):
        read_label(text, names)


@pytest.mark.parametrize("read", READERS)
def test_the_error_quotes_little_of_the_reply_on_one_line(read):
    text = "I cannot\r\n\tsay\x00\x1b[31m\u2028 " + "because it is so " * 1000
    with pytest.raises(UnreadableReply) as error:
        read(text, LETTERED)
    message = str(error.value)
    assert message.isprintable()
    assert "the reply is 'I cannot say [31m because it is so because" in message
    quoted = message.partition("the reply is ")[2]
    assert len(quoted) <= 200 + len("''")
    assert quoted.endswith("…'")
    assert "(of 'spam', 'not spam')" in message


def test_the_error_names_a_few_of_many_labels():
    with pytest.raises(UnreadableReply, match=r"'label 4', \.\.\.\)") as error:
        read_label("no", Names((), tuple(f"label {i}" for i in range(1000))))
    assert "label 5" not in str(error.value)


def test_the_error_shows_what_was_thought_where_nothing_else_was_said():
    with pytest.raises(UnreadableReply, match="<think>It may be"):
        read_label("<think>It may be spam", BARE)


# --- properties -----------------------------------------------------------------------------------

WORDINGS = ("Credit card", "loan", "Not a loan", "savings_account", "other: any", "C++", "2nd hand")


def _table(pairs):
    return "| x | p |\n|---|---|\n" + "\n".join(f"| {n} | {p:.4f} |" for n, p in pairs)


def _percent_lines(pairs):
    return "\n".join(f"- {n}: {100 * p:.2f} %" for n, p in pairs)


FORMATS = {
    "json": lambda pairs: json.dumps(dict(pairs)),
    "fenced": lambda pairs: f"Here:\n```json\n{json.dumps(dict(pairs), indent=2)}\n```\nDone.",
    "python": lambda pairs: f"result = {dict(pairs)!r}",
    "nested": lambda pairs: json.dumps({"output": {"probabilities": dict(pairs)}}),
    "records": lambda pairs: json.dumps([{"label": n, "probability": p} for n, p in pairs]),
    "percent texts": lambda pairs: json.dumps({n: f"{100 * p:.2f}%" for n, p in pairs}),
    "comma texts": lambda pairs: json.dumps({n: f"{p:.4f}".replace(".", ",") for n, p in pairs}),
    "trailing comma": lambda pairs: json.dumps(dict(pairs)).replace("}", ",}"),
    "upper case": lambda pairs: json.dumps({n.upper(): p for n, p in pairs}),
    "bare keys": lambda pairs: "{" + ", ".join(f"{n}: {p}" for n, p in pairs) + "}",
    "lines": lambda pairs: "\n".join(f"{n}: {p}" for n, p in pairs),
    "bold lines": lambda pairs: "\n".join(f"**{n}** = {p}" for n, p in pairs),
    "percent lines": _percent_lines,
    "in brackets": lambda pairs: "\n".join(f"{n} ({100 * p:.2f}%)" for n, p in pairs),
    "table": _table,
}
WITH_COLON = {"bare keys"}  # formats in which a wording cannot have a colon


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("write", FORMATS)
def test_random_distributions_come_back(write, keyed):
    rng = np.random.default_rng(7)
    texts = [w for w in WORDINGS if write not in WITH_COLON or ":" not in w]
    for _ in range(25):
        n = int(rng.integers(2, len(texts) + 1))
        chosen = tuple(str(text) for text in rng.permutation(texts)[:n])
        names = Names(tuple("ABCDEFG"[:n]) if keyed else (), chosen)
        proba = rng.dirichlet(np.full(n, 0.5)).round(4)
        shown = list(zip(names.keys or chosen, proba.tolist(), strict=True))
        said = FORMATS[write]([shown[i] for i in rng.permutation(n)])
        assert read_distribution(said, names).stated == approx(*proba), said
        assert read_guesses(said, names).stated == approx(*proba), said


def test_random_answers_come_back():
    rng = np.random.default_rng(8)
    names = Names((), WORDINGS)
    for _ in range(100):
        k, p = int(rng.integers(len(WORDINGS))), round(float(rng.uniform(0.01, 1)), 2)
        for said in (
            json.dumps({"label": WORDINGS[k], "probability": p}),
            f"Answer: {WORDINGS[k]}\nConfidence: {100 * p:.0f}%",
        ):
            report = read_answer(said, names)
            assert report.answer == k, said
            assert report.stated[k] == pytest.approx(p), said
        assert read_label(f"Label: {WORDINGS[k]}", names) == k


def test_a_long_list_of_labels_comes_back():
    texts = tuple(f"intent {i}" for i in range(300))
    proba = np.random.default_rng(9).dirichlet(np.ones(300)).round(6)
    said = dict(zip(texts, proba.tolist(), strict=True))
    for text in (json.dumps(said), "\n".join(f"{n}: {p}" for n, p in said.items())):
        assert read_distribution(text, Names((), texts)).stated == approx(*proba)


# --- hostile replies ------------------------------------------------------------------------------

HOSTILE = {
    **{f"{unit!r} repeated": unit * (100_000 // len(unit)) for unit in (*'{}[]"\\(|-9A*:,', "\t")},
    **{
        f"{unit!r} repeated": unit * (100_000 // len(unit))
        for unit in (
            "A: ",
            "A, ",
            '{"',
            "[{",
            '"A":"',
            "not spam ",
            "<think>",
            "answer ",
            "1/",
            "1e",
        )
    },
    "nested lists": "[" * 50_000 + "]" * 50_000,
    "nested objects": '{"A":' * 50_000 + "0.3" + "}" * 50_000,
    "nested lists of objects": '[{"A":' * 20_000 + "0.3" + "}]" * 20_000,
    "many objects": '{"x": 1} ' * 10_000,
    "many values": "{" + "1," * 50_000 + "}",
    "a long number": '{"A": ' + "1" * 100_000 + "}",
    "a long share": "A: 0." + "7" * 100_000,
    "a long gap": "A" + " " * 100_000 + ": 0.7",
    "a long key": '{"' + "A" * 100_000 + '": 0.7}',
    "a large exponent": '{"A": 1e' + "9" * 50_000 + "}",
    "lines": "A: x\n" * 20_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies_are_read_or_fail_but_end(kind):
    for read in (read_distribution, read_label):
        failure, label = "", None
        try:
            said = read(HOSTILE[kind], LETTERED)
            label = said if read is read_label else np.nanargmax(said.stated)
        except UnreadableReply as e:
            failure = str(e)
        # All that any of these names is the first label, or "not spam".
        assert label == ("not spam" in kind) or 0 < len(failure) < 600


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_read_or_fails(seed):
    rng = np.random.default_rng(seed)
    parts = [
        *"{}[]:,\"'|\n \\",
        "A",
        "B",
        "spam",
        "not",
        "0.7",
        "70%",
        "answer",
        "<think>",
        "-",
        "(",
    ]
    for _ in range(200):
        text = "".join(rng.choice(parts, size=rng.integers(1, 40)))
        for read in READERS[:3]:
            try:
                report = read(text, LETTERED)
            except UnreadableReply:
                continue
            known = report.stated[~np.isnan(report.stated)]
            assert ((known >= 0) & (known <= 1)).all(), text
            assert known.any(), text


def test_an_answer_that_is_not_believed_in_at_all():
    report = read_answer('{"answer": "A", "confidence": 0}', LETTERED)
    assert (report.answer, report.stated[0]) == (0, 0.0)
    with pytest.raises(UnreadableReply, match="all numbers are 0"):
        read_distribution('{"answer": "A", "confidence": 0}', LETTERED)


# --- recorded replies -----------------------------------------------------------------------------


@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded data here")
def test_recorded_replies_are_read_as_their_authors_did():
    columns = ["raw", "pred", "confidence", "gold"]
    table = pd.read_parquet(RECORDED, columns=columns)
    texts = tuple(sorted(set(table["gold"]) | set(table["pred"].dropna())))
    names = Names((), texts)
    replies = table.drop_duplicates(["raw", "pred", "confidence"])
    n_read = 0
    for reply in replies.itertuples():
        # The column is cut at 300 characters.
        if len(reply.raw) >= 300 and not reply.raw.count("}"):
            with pytest.raises(UnreadableReply):
                read_answer(reply.raw, names)
            continue
        report = read_answer(reply.raw, names)
        n_read += 1
        assert texts[report.answer] == reply.pred
        assert report.stated[report.answer] == pytest.approx(reply.confidence)
    assert n_read > 0.95 * len(replies)
