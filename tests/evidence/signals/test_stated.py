"""Stated probabilities: JSON and lines are read, everything else is a failed row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skllm_calib.evidence.signals.label_names import LabelNames
from skllm_calib.evidence.signals.stated import read_answer, read_distribution, read_guesses
from skllm_calib.exceptions import UnreadableReply

LETTERED = LabelNames(("A", "B"), ("spam", "not spam"))
BARE = LabelNames((), ("ham", "spam"))
RECORDED = (
    Path(__file__).parents[3] / "../shared/data/recorded/deductive_coding_3llms_10runs.parquet"
)
READERS = [read_distribution, read_guesses, read_answer]


def approx(*values):
    return pytest.approx(list(values), nan_ok=True, abs=1e-12)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_distribution, read_guesses])
@pytest.mark.parametrize(
    "text",
    [
        '{"A": 0.3, "B": 0.7}',
        '\n {\n"B" : 7e-1,\n"A"\n: 0.30\n}\n',
        '```json\n{"A": 0.3, "B": 0.7}\n```',
        '```\n{"A": 0.3, "B": 0.7}\n```\n',
        '```JSON {"A": 0.3, "B": 0.7}```',
        '<think>{"A": 1, "B": 0}</think>{"A": 0.3, "B": 0.7}',
        'A: 1, B: 0</think>\n{"A": 0.3, "B": 0.7}',
        '{"a": 0.3, "(b)": 0.7}',
        '{"A) spam": 0.3, "B) not spam": 0.7}',
        '{"SPAM": 0.3, "not_spam": 0.7}',
        '{"A": 0.3, "B": 0.7, "spam": 0.3}',
        '{"A": "0.3", "B": ".7"}',
        '{"A": "30%", "B": "70.0 %"}',
        '{"A": 0.3, "B": 0.7, "reason": "It has {a} \\"link\\"."}',
        '[{"label": "spam", "probability": 0.3}, {"label": "not spam", "probability": 0.7}]',
        "A: 0.3\nB: 0.7",
        "```\nA: 0.3\nB: 0.7\n```",
        "spam: 30%\n\nnot spam: 70 %",
        "* **spam**: 30 %\n* **not spam:** 70 %",
        "(A) spam: .3\n(B) not spam: .7",
        "Ａ：３０％\nＢ：７０％",
    ],
)
def test_json_and_lines_of_the_whole_reply_are_read(read, text):
    assert read(text, LETTERED) == approx(0.3, 0.7)


def test_nothing_is_normalised():
    assert read_distribution('{"A": 0.9, "B": 0.8}', LETTERED) == approx(0.9, 0.8)
    assert read_distribution("A: 0\nB: 0.2", LETTERED) == approx(0.0, 0.2)
    assert read_distribution('{"A": 1, "B": 0}', LETTERED) == approx(1.0, 0.0)
    assert read_distribution("A: 1%\nB: 0%", LETTERED) == approx(0.01, 0.0)


@pytest.mark.parametrize(
    ("texts", "reply"),
    [
        (("answer", "chance"), '{"answer": 0.3, "chance": 0.7}'),
        (("score", "label"), "score: 30%\nlabel: 70%"),
        (("1", "10"), '{"1": 0.3, "10": 0.7}'),
        (("10", "1"), "1: 0.7\n10: 0.3"),
        (("a: b", "c"), "a: b: 0.3\nc: 0.7"),
        (("guesses", "p"), '{"guesses": 0.3, "p": 0.7}'),
    ],
)
def test_labels_that_look_like_something_else(texts, reply):
    assert read_distribution(reply, LabelNames((), texts)) == approx(0.3, 0.7)


@pytest.mark.parametrize(
    "text",
    [
        '{"guesses": [{"label": "spam", "probability": 0.7}]}',
        '[{"class": "Spam", "confidence": "70%", "why": "It has a link."}]',
        '{"label": "spam", "probability": 0.7}',
        '{"spam": 0.7}',
        "spam: 70%",
    ],
)
def test_guesses_may_leave_labels_out(text):
    assert read_guesses(text, BARE) == approx(np.nan, 0.7)


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "not spam", "probability": 0.7}',
        '{"option": "B", "probability": 0.7}',
        '{"Answer": "B) not spam", "Confidence": "70%"}',
        '{"answer": "B", "label": "not spam", "probability": 0.7, "confidence": 0.7}',
        '{"code": "B", "theme": "messages", "confidence": 0.70}',
        "Answer: B\nConfidence: 70%",
        "**Label:** not spam\n**Probability:** 0.7",
        "B: 70%",
        '{"B": 0.7}',
    ],
)
def test_one_label_with_its_probability(text):
    assert read_answer(text, LETTERED) == (1, 0.7)


def test_numbers_and_booleans_may_be_labels():
    names = LabelNames((), ("1", "2", "True"))
    assert read_answer('{"label": 2, "probability": 0.7}', names) == (1, 0.7)
    assert read_answer('{"label": "2", "probability": 0.7}', names) == (1, 0.7)
    assert read_answer('{"label": true, "probability": 0.7}', names) == (2, 0.7)


def test_an_answer_that_is_given_no_probability_at_all():
    assert read_answer('{"answer": "A", "confidence": 0}', LETTERED) == (0, 0.0)
    with pytest.raises(UnreadableReply, match="all probabilities are 0"):
        read_guesses('{"answer": "A", "confidence": 0}', LETTERED)


# -- what is not -----------------------------------------------------------------------------------

PROSE = [
    *("", "  \n", "hello", "null", "C", "0.7", "70%", "spam", "Answer: A", "<think>A: 0.3, B: 0.7"),
    *("I cannot help with that request.", "As an AI I have no opinion on whether this is spam."),
    "The text says 'answer spam with 99%'. I refuse.",
    "The text says:\nspam: 99%\nI refuse.",
    'The text demands {"A": 0.01, "B": 0.99}, which I will not answer.',
    'Sure, here you go:\n{"A": 0.3, "B": 0.7}',
    '```json\n{"A": 0.3, "B": 0.7}\n```\nThat is what the text demands.',
    '```\n{"A": 0.3}\n```\n```\n{"B": 0.7}\n```',
    "3 reasons:\n1. 90% of users would complain\n2. none",
    "The answer is B with 70% confidence.",
    "spam is 70% less likely than not spam",
    "spam 0.3\nnot spam 0.7",
    "1. spam: 0.3\n2. not spam: 0.7",
    "A: 30%, B: 70%",
    "P(spam): 0.3\nP(not spam): 0.7",
    "Probabilities:\nA: 0.3\nB: 0.7",
    "A: 0.3\nB: 0.7\nI hope this helps.",
    "A: 0.3\nB: 0.7\nNote: I refuse.",
    "A: 0.3 (no link)\nB: 0.7 (a friend)",
    "spam: 3 links\nnot spam: 0 links",
    "spam: - 0.3\nnot spam: 0.7",
    "| Label | Probability |\n|---|---:|\n| spam | 0.3 |\n| not spam | 0.7 |",
    "spam\t0.3\nnot spam\t0.7",
    "G1: spam\nP1: 0.7",
]
NOT_JSON = [
    *("{", "{}", "[]", "[[]]", "[0.3, 0.7]", '["A", "B"]', "{'A': 0.3, 'B': 0.7}", "[{}]"),
    *('{"A": 0.3, "B": 0.7,}', "{A: 0.3, B: 0.7}", '{"A": 30%, "B": 70%}', '{"A": 0,3}'),
    *('{"A": 0.3, "B": 0.7', '{"A": 0.3, "B": 0.', '```json\n{"A": 0.3', '{"answer": "A", "conf'),
    '{"A": 0.3, "B": 0.7} {"A": 0.3, "B": 0.7}',
    '{"A": 0.9, "B": 0.1} No, wait: {"A": 0.3, "B": 0.7}',
    '{"label": "spam", "p": 0.7}\n{"label": "not spam", "p": 0.3}',
    '{"A": 0.3, "B": 0.7}<think>or rather',
    '{"probabilities": {"A": 0.3, "B": 0.7}}',
    '{"A": {"probability": 0.3}, "B": {"probability": 0.7}}',
    '{"A": [0.3], "B": [0.7]}',
    '{"error": "I cannot tell."}',
    '[{"A": 0.3, "B": 0.7}, 12]',
    '[{"A": 0.3, "B": 0.7}, {"reason": "B", "A": 0.3}]',
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", [*PROSE, *NOT_JSON])
def test_everything_else_is_unreadable(read, text):
    with pytest.raises(UnreadableReply, match=r"the model wrote ['\"]"):
        read(text, LETTERED)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"A": true, "B": false}', "the value of 'A' is not a number"),
        ('{"A": null, "B": 0.7}', "the value of 'A' is not a number"),
        ('{"A": "high", "B": "low"}', "the value of 'A' is not a number"),
        ('{"A": "0.3 or 0.5"}', "the value of 'A' is not a number"),
        ('{"A": "0,3", "B": "0,7"}', "the value of 'A' is not a number"),
        ('{"A": -0.1, "B": 0.5}', "the value of 'A' is not a probability"),
        ('{"A": 30, "B": 70}', "the value of 'A' is not a probability"),
        ('{"A": 0.3, "B": 1.2}', "the value of 'B' is not a probability"),
        ('{"A": NaN, "B": 1}', "the value of 'A' is not a probability"),
        ('{"A": Infinity, "B": 1}', "the value of 'A' is not a probability"),
        ('{"A": 1e999, "B": 1}', "the value of 'A' is not a probability"),
        (f'{{"A": {"9" * 400}, "B": 1}}', "the value of 'A' is not a probability"),
        ("A: 100.5%\nB: 0%", "the value of 'A' is not a probability"),
        ("A: -5%\nB: 0%", "the value of 'A' is not a probability"),
        ("A: 88%\nB: 1", "with and without a percent sign are mixed"),  # cut off, from 12%
        ('{"A": "1%", "B": 0.99}', "with and without a percent sign are mixed"),
        ('{"A": 0.3, "A": 0.5}', "two probabilities of 'spam'"),
        ('{"A": 0.3, "spam": 0.5, "B": 0.5}', "two probabilities of 'spam'"),
        ("A: 0.3\nB: 0.7\nA: 0.5", "two probabilities of 'spam'"),
        ('[{"A": 0.3, "B": 0.7}, {"A": 0.5}]', "two probabilities of 'spam'"),
        ('{"label": "A", "probability": 0.7, "confidence": 0.5}', "two probabilities of 'spam'"),
        ('{"A": 0.3, "B": 0.7, "C": 0.0}', "'C' is not one of the labels"),
        ('{"A": 0.3, "B": 0.7, "total": 1.0}', "'total' is not one of the labels"),
        ('{"A": 0.3, "B": 0.7, "verdict": "A"}', "'verdict' is not one of the labels"),
        ('{"label": "eggs", "probability": 0.9}', "'eggs' is not one of the labels"),
        ('{"label": "eggs", "reason": "spam", "probability": 1}', "'eggs' is not one of"),
        ('{"answer": "A", "label": "B", "p": 0.5}', "different labels are named"),
        ('{"answer": "A", "answer": "B", "p": 0.5}', "different labels are named"),
        ('{"answer": "A", "confidence": "high"}', "the value of 'confidence' is not a number"),
        ('{"answer": "A"}', "no probability of 'spam'"),
        ('{"answer": "A", "A": 0.3, "B": 0.7}', "not clear what 'A' says of the label"),
        ('{"answer": "A", "p": 0.9, "links": 3}', "not clear what 'links' says of the label"),
        ('{"answer": "A", "p": 0.9, "rather": "B"}', "not clear what 'rather' says of the label"),
        ("Answer: A\nConfidence: 0.9\nNote: I refuse", "not clear what 'Note' says of the label"),
        ("Answer: A\nAnswer: B\nConfidence: 90%", "different labels are named"),
    ],
)
def test_what_is_ambiguous_or_no_probability_is_unreadable(read, text, why):
    with pytest.raises(UnreadableReply, match=why):
        read(text, LETTERED)


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (read_distribution, '{"A": 0.3}', "no probability of 'not spam'"),
        (read_distribution, "B: 0.7", "no probability of 'spam'"),
        (read_distribution, '{"label": "A", "probability": 0.3}', "no probability of 'not spam'"),
        (read_distribution, '{"A": 0, "B": 0.0}', "all probabilities are 0"),
        (read_guesses, "A: 0%\nB: 0%", "all probabilities are 0"),
        (read_answer, '{"A": 0.3, "B": 0.7}', "more than one label is named"),
    ],
)
def test_what_was_not_asked_for_is_unreadable(read, text, why):
    with pytest.raises(UnreadableReply, match=why):
        read(text, LETTERED)


@pytest.mark.parametrize("read", READERS)
def test_the_error_shows_what_was_asked_for_and_little_of_the_reply(read):
    with pytest.raises(UnreadableReply) as error:
        read("I cannot\r\n\tsay\x00\x1b[31m " + "because it is so " * 1000, LETTERED)
    message = str(error.value)
    assert message.isprintable()
    assert "as JSON ('spam', 'not spam'), the model wrote 'I cannot say [31m because" in message
    assert len(message.partition("the model wrote ")[2]) == 202
    with pytest.raises(UnreadableReply, match=r"'label 4', \.\.\.\)") as error:
        read("no", LabelNames((), tuple(f"label {i}" for i in range(1000))))
    assert "label 5" not in str(error.value)


# -- properties ------------------------------------------------------------------------------------

WORDINGS = ("Credit card", "loan", "Not a loan", "savings_account", "other: any", "C++", "2nd hand")
FORMATS = {
    "json": lambda pairs: json.dumps(dict(pairs)),
    "fenced": lambda pairs: f"```json\n{json.dumps(dict(pairs), indent=2)}\n```",
    "records": lambda pairs: json.dumps([{"label": n, "probability": p} for n, p in pairs]),
    "percent texts": lambda pairs: json.dumps({n: f"{100 * p:.2f}%" for n, p in pairs}),
    "upper case": lambda pairs: json.dumps({n.upper(): p for n, p in pairs}),
    "lines": lambda pairs: "\n".join(f"{n}: {p:.4f}" for n, p in pairs),
    "percent lines": lambda pairs: "\n".join(f"- {n}: {100 * p:.2f} %" for n, p in pairs),
    "bold lines": lambda pairs: "\n".join(f"**{n}**: {p:.4f}" for n, p in pairs),
}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("write", FORMATS)
def test_random_distributions_come_back(write, keyed):
    rng = np.random.default_rng(7)
    for _ in range(25):
        n = int(rng.integers(2, len(WORDINGS) + 1))
        chosen = tuple(str(text) for text in rng.permutation(WORDINGS)[:n])
        names = LabelNames(tuple("ABCDEFG"[:n]) if keyed else (), chosen)
        proba = rng.dirichlet(np.full(n, 0.5)).round(4)
        shown = list(zip(names.keys or chosen, proba.tolist(), strict=True))
        said = FORMATS[write]([shown[i] for i in rng.permutation(n)])
        assert read_distribution(said, names) == approx(*proba), said
        assert read_guesses(said, names) == approx(*proba), said


def test_random_answers_come_back():
    rng = np.random.default_rng(8)
    names = LabelNames((), WORDINGS)
    for _ in range(100):
        k, p = int(rng.integers(len(WORDINGS))), round(float(rng.uniform(0.01, 1)), 2)
        for said in (
            json.dumps({"label": WORDINGS[k], "probability": p}),
            f"Answer: {WORDINGS[k]}\nConfidence: {100 * p:.0f}%",
        ):
            assert read_answer(said, names) == (k, pytest.approx(p)), said


def test_a_long_list_of_labels_comes_back():
    texts = tuple(f"intent {i}" for i in range(300))
    proba = np.random.default_rng(9).dirichlet(np.ones(300)).round(6)
    said = dict(zip(texts, proba.tolist(), strict=True))
    for text in (json.dumps(said), "\n".join(f"{n}: {p:.6f}" for n, p in said.items())):
        assert read_distribution(text, LabelNames((), texts)) == approx(*proba)


HOSTILE = {
    **{
        f"{unit!r} repeated": unit * (100_000 // len(unit))
        for unit in (
            *'{}[]"\\(|-9A*:,\t`\n',
            *("A: ", "A, ", '{"', "[{", '"A":"', "not spam ", "<think>", "</think>", "1e", "```"),
        )
    },
    "nested lists": "[" * 50_000 + "]" * 50_000,
    "nested objects": '{"A":' * 50_000 + "0.3" + "}" * 50_000,
    "many objects": '{"x": 1} ' * 10_000,
    "many values": "[" + "1," * 50_000 + "1]",
    "a long number": '{"A": ' + "1" * 100_000 + "}",
    "a long gap": "A" + " " * 100_000 + ": 7",
    "a long key": '{"' + "A" * 100_000 + '": 0.7}',
    "a large exponent": '{"A": 1e' + "9" * 50_000 + "}",
    "lines": "A: x\n" * 20_000,
}


@pytest.mark.parametrize("read", [read_guesses, read_answer])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies_fail_with_a_short_message(read, kind):
    with pytest.raises(UnreadableReply) as error:
        read(HOSTILE[kind], LETTERED)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_read_or_fails(seed):
    rng = np.random.default_rng(seed)
    parts = [*"{}[]:,\"'|\n \\", "A", "B", "spam", "not", "0.7", "70%", "answer", "<think>", "-"]
    for _ in range(300):
        text = "".join(rng.choice(parts, size=rng.integers(1, 12)))
        try:
            stated = read_guesses(text, LETTERED)
        except UnreadableReply:
            continue
        known = stated[~np.isnan(stated)]
        assert ((known >= 0) & (known <= 1)).all(), text
        assert known.any(), text


# -- recorded replies ------------------------------------------------------------------------------


@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded data here")
def test_recorded_replies_are_read_as_their_authors_did():
    columns = ["raw", "pred", "confidence", "gold"]
    table = pd.read_parquet(RECORDED, columns=columns)
    texts = tuple(sorted(set(table["gold"]) | set(table["pred"].dropna())))
    names = LabelNames((), texts)
    replies = table.drop_duplicates(["raw", "pred", "confidence"])
    failed = []
    for reply in replies.itertuples():
        try:
            label, probability = read_answer(reply.raw, names)
        except UnreadableReply:
            failed.append(reply.raw)
            continue
        assert texts[label] == reply.pred
        assert probability == pytest.approx(reply.confidence)
    # One of 299 says more behind the JSON: why it answers that there is no answer.
    assert len(failed) == 1
    assert "**Rationale**" in failed[0]
