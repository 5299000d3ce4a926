"""What reads replies, lists of tokens and texts, by itself, with input that is nearly right."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from fuzzing import JUNK, TEXTS, check_row, fuzz, nearly, written
from hypothesis import assume, given
from hypothesis import strategies as st

from skllm_calib.backends import Choice, Message, Reply, Request
from skllm_calib.evidence.backends.llama_cpp.engine import LlamaEngine
from skllm_calib.evidence.backends.transformers.labels import Walk
from skllm_calib.evidence.kept_failures import read_failure, write_failure
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.evidence.signals.label_names import LabelNames, read_label
from skllm_calib.evidence.signals.logprobs import read_labels
from skllm_calib.evidence.signals.stated import read_answer, read_distribution, read_guesses
from skllm_calib.evidence.spellings import Spellings
from skllm_calib.evidence.token_lists import (
    Distribution,
    Sent,
    Token,
    check_distribution,
    read_list,
)
from skllm_calib.exceptions import UnreadableReply

# ----------------------------------------------------------------------------- lists of tokens

LABELS = ("A", "B", "C")
SPELLED = [b"A", b" A", b"a", b"B", b"\nB", b"b", b"C", b'"C', b"c"]
OTHERS = [b"The", b"It", b"1", b"Z", b"x", b"", b"\xc3"]
LOGPROBS = st.one_of(
    st.none(), st.floats(-12.0, 0.0), st.floats(), st.sampled_from([0.0, -9999.0, 5e-4, math.nan])
)
SENT = st.builds(
    Sent,
    st.one_of(st.none(), st.sampled_from(SPELLED + OTHERS), st.binary(max_size=6)),
    LOGPROBS,
    st.one_of(st.none(), st.integers(0, 5)),
)


@fuzz
@given(sent=st.lists(SENT, max_size=8), drawn=st.one_of(st.none(), SENT))
def test_any_list_is_read_or_refused(sent, drawn):
    tree = LabelTree(LABELS)
    try:
        known = read_list(sent, drawn)
    except UnreadableReply:
        with pytest.raises(UnreadableReply):
            tree.distribution(b"", sent, drawn)
        return
    values = [token.logprob for token in known.tokens]
    assert all(value <= 0 for value in values)
    assert values == sorted(values, reverse=True)
    assert 0 <= known.mass <= 1
    assert 0 <= known.smallest <= 1
    there = tree.distribution(b"", sent, drawn)
    check_distribution(there)
    try:
        evidence = read_labels([there], LABELS)
    except UnreadableReply:
        return
    assert check_row(np.exp(evidence.log_proba))


@st.composite
def shown(draw):
    """Draw what a model would write, and a list that a server makes of it.

    Behind the end of the list is at most one token of each label: a bound counts with that.
    """
    names = draw(st.lists(st.sampled_from(SPELLED + OTHERS[:5]), min_size=2, unique=True))
    weights = [draw(st.integers(1, 1_000)) for _ in names]
    proba = sorted((w / sum(weights) for w in weights), reverse=True)
    truth = dict(zip(names, proba, strict=True))
    k = draw(st.integers(1, len(names)))
    match = LabelTree(LABELS).match
    behind = [label for name in names[k - 1 :] if (label := match(name).complete) is not None]
    assume(len(behind) == len(set(behind)))
    sent = [Sent(name, math.log(p)) for name, p in list(truth.items())[:k]]
    drawn = draw(st.sampled_from(names))
    wrote = Sent(drawn, math.log(truth[drawn]))
    if drawn not in [entry.text for entry in sent]:
        # Servers list what was written in the place of the last rank, behind it, or not at all.
        sent = draw(st.sampled_from([[*sent[:-1], wrote], [*sent, wrote], [wrote, *sent], sent]))
    if draw(st.booleans()):
        sent.append(draw(st.sampled_from(sent)))
    if draw(st.booleans()):
        sent.append(Sent(b"!", None))
    return truth, sent, wrote


@fuzz
@given(shown())
def test_the_truth_is_within_the_bounds(about):
    truth, sent, wrote = about
    tree = LabelTree(LABELS)
    mass = tree.reduce({b"": tree.distribution(b"", sent, wrote)})
    of_label = np.zeros(len(LABELS))
    for name, p in truth.items():
        if (label := tree.match(name).complete) is not None:
            of_label[label] += p
    assert (mass.low <= of_label + 1e-9).all()
    assert (of_label <= mass.high + 1e-9).all()
    assert (mass.low <= mass.point + 1e-9).all()
    assert (mass.point <= mass.high + 1e-9).all()
    assert mass.point.sum() <= 1 + 1e-9


WORDS = ("card lost", "card stolen", "top up")
NODES = st.dictionaries(
    st.sampled_from([b"card", b"card lost", b"top", b"c", b" ", b"\xe2"]),
    st.lists(st.tuples(st.sampled_from([b" lost", b" stolen", b"card", b" up", b"s"]), LOGPROBS)),
)


@fuzz
@given(
    root=st.lists(st.tuples(st.sampled_from([b"card", b"top", b"c", b" "]), LOGPROBS)), nodes=NODES
)
def test_labels_of_several_tokens_are_read_or_refused(root, nodes):
    tree = LabelTree(WORDS)
    found = {}
    for prefix, listed in {b"": root, **nodes}.items():
        try:
            found[prefix] = tree.distribution(prefix, [Sent(*entry) for entry in listed])
        except UnreadableReply:
            assume(prefix != b"")
    assert len(tree.pending(found)) <= 10
    assert len(tree.doubtful(found)) <= 3 * len(found)
    try:
        evidence = read_labels([found[p] for p in sorted(found)], WORDS)
    except UnreadableReply:
        return
    assert check_row(np.exp(evidence.log_proba))
    details = evidence.details
    assert (details["label_mass_low"] <= details["label_mass_high"] + 1e-9).all()


# --------------------------------------------------------------------- what a cache has kept

KEPT = Reply(
    "A",
    (Distribution(b"", (Token(b"A", -0.4), Token(b"\xc3", -2.0)), 0.9, 0.1, 20, True),),
    model="m",
    fingerprint="fp",
    prompt_tokens=10,
    notes=("a note",),
    refused=("seed",),
    decision=(0.4, 0.6),
    passes=((Distribution(b"", (Token(b"A", -0.4),), 0.9, 0.1),),),
    cut=True,
)


def test_a_kept_reply_without_a_beginning():
    damaged = KEPT.to_json().replace('"prefix":""', '"prefix":" "')
    with pytest.raises(UnreadableReply, match="no token probabilities"):
        read_labels(Reply.from_json(damaged).distributions, LABELS)


@fuzz
@given(nearly([json.loads(KEPT.to_json())]))
def test_a_kept_reply_that_is_damaged(content):
    try:
        reply = Reply.from_json(written(content).decode())
    except ValueError:
        return
    assert Reply.from_json(reply.to_json()) == reply
    try:
        evidence = read_labels(reply.distributions, LABELS)
    except UnreadableReply:
        return
    assert check_row(np.exp(evidence.log_proba))


@fuzz
@given(st.one_of(JUNK, nearly([json.loads(write_failure(UnreadableReply("no")))])))
def test_a_kept_failure_that_is_damaged(content):
    failure = read_failure(written(content).decode())
    assert failure is None or failure.is_billed


# --------------------------------------------------------------------------- stated answers

NAMES = LabelNames(("A", "B", "C"), ("ham", "not spam", "spam"))
STATED = [
    {"A": 0.2, "B": 0.7, "C": 0.1},
    {"ham": "20%", "not spam": "70%", "spam": "10%"},
    {"guesses": [{"label": "spam", "probability": 0.6}, {"label": "ham", "probability": 0.3}]},
    [{"option": "A", "confidence": 0.9}],
    {"label": "not spam", "probability": 0.35, "reason": "it says so"},
]
LINES = [
    "ham: 20%\nnot spam: 70%\nspam: 10%",
    "Answer: spam\nConfidence: 0.85",
    "A: 0.3\nB: 0.7\nC: 0",
]
_WRITTEN = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?", re.I)


def stated_in(text):
    """Return all that a text may state: its numbers, and a hundredth of each."""
    values = [float(number) for number in _WRITTEN.findall(unicodedata.normalize("NFKC", text))]
    return np.array([*values, *(value / 100 for value in values)])


def check_stated(text):
    for read in (read_distribution, read_guesses, read_answer):
        try:
            found = read(text, NAMES)
        except UnreadableReply:
            continue
        values = [found[1]] if isinstance(found, tuple) else found[~np.isnan(found)]
        assert len(values)
        for value in values:
            assert 0 <= value <= 1
            assert np.isclose(stated_in(text), value, rtol=1e-12, atol=0).any()


@fuzz
@given(nearly(STATED))
def test_a_probability_is_stated_as_it_is_read(content):
    check_stated(written(content).decode())


@st.composite
def nearly_text(draw, texts):
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 5)))
        text = (
            text[:start] + draw(st.one_of(TEXTS, st.sampled_from("0.:%{}[]\"'-1eE²٣"))) + text[end:]
        )
    return text


@fuzz
@given(nearly_text([*LINES, *map(json.dumps, STATED), f"```json\n{json.dumps(STATED[0])}\n```"]))
def test_a_text_states_what_is_read_from_it(text):
    check_stated(text)


@fuzz
@given(
    nearly_text(["spam", "A) ham", "It is mail.\nAnswer: not spam", "<think>ham?</think>spam", "C"])
)
def test_a_label_is_written_where_it_is_read(text):
    try:
        label = read_label(text, NAMES)
    except UnreadableReply:
        return
    bare = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    names = (NAMES.keys[label].casefold(), NAMES.texts[label].replace(" ", ""))
    marked = re.sub(r"[_\-‐-―−.!,'\"*`()\[\]{}:;“”‘’]", "", bare)
    assert any(name in marked for name in names)


# ------------------------------------------------------------------ models on this machine

PIECES = {1: b"A", 2: b"B", 3: b"C", 4: b" A", 5: b"The"}


def tokenize(text):
    return [(i, piece) for i, piece in PIECES.items() if piece == text.encode()]


class Sequence:
    """Log-probabilities with what is used of a tensor."""

    def __init__(self, values):
        self.values = np.asarray(values, dtype=float)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, which):
        return self.values[which]

    def topk(self, n):
        order = np.argsort(-self.values)[:n]
        return self.values[order], order


@fuzz
@given(
    st.lists(
        st.floats(-30, 0) | st.sampled_from([-math.inf, math.nan, 0.0, 3.0]), min_size=6, max_size=6
    )
)
def test_tensors_of_a_transformer(values):
    walk = Walk(Spellings(LABELS, tokenize), lambda i: PIECES.get(i, b""))
    try:
        walk.see((), Sequence(values))
        walk.look_further()
        evidence = read_labels(walk.distributions, LABELS)
    except UnreadableReply:
        return
    assert check_row(np.exp(evidence.log_proba))


def entry(number, p):
    return {"id": number, "token": "", "bytes": list(PIECES[number]), "logprob": math.log(p)}


ENDED = {"id": 0, "token": "", "bytes": list(b"."), "logprob": 0.0, "top_logprobs": []}
LISTED = {1: 0.5, 2: 0.3, 3: 0.1, 5: 0.05}
COMPLETION = {
    "choices": [
        {
            "text": "A",
            "finish_reason": "length",
            "logprobs": {
                "content": [
                    {**entry(1, 0.5), "top_logprobs": [entry(i, p) for i, p in LISTED.items()]}
                ]
            },
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {}},
}
DECISION = {
    "model": "m",
    "answers": {"label": {"choice": "A", "probabilities": {"A": 0.6, "B": 0.3, "C": 0.1}}},
    "usage": {"input_tokens": 9, "output_tokens": 0},
}


def engine(reply, behind=None):
    """An engine around a model that gives everything one reply, or another one behind a label."""
    made = object.__new__(LlamaEngine)
    made._server = SimpleNamespace(
        handle_completions=lambda body: behind if behind and len(body["prompt"]) > 1 else reply,
        handle_systemone=lambda body: reply,
    )
    made._slots = SimpleQueue()
    made._slots.put(0)
    made._framing = SimpleNamespace(ids=lambda messages: [1])
    made._spellings = {LABELS: Spellings(LABELS, tokenize)}
    made._plain, made._reuse, made._n_ctx, made._model = 0, True, 100, "m"
    return made


REQUESTS = {
    "labels": Request((Message("user", "?"),), answers=LABELS),
    "text": Request((Message("user", "?"),)),
    "decision": Request((Message("user", "?"),), choices=tuple(map(Choice, LABELS))),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_llama_cpp_in_process_as_it_is(kind):
    ended = {"choices": [{"text": "", "logprobs": {"content": [ENDED]}}]}
    made = engine(DECISION if kind == "decision" else COMPLETION, behind=ended)
    reply = made.answer(REQUESTS[kind])
    if kind == "labels":
        row = np.exp(read_labels(reply.distributions, LABELS).log_proba)
        np.testing.assert_allclose(row, [5 / 9, 3 / 9, 1 / 9], atol=1e-3)
    else:
        assert reply.text == "A"


@pytest.mark.parametrize("kind", REQUESTS)
@fuzz
@given(data=st.data())
def test_llama_cpp_in_process(kind, data):
    reply = data.draw(nearly([DECISION if kind == "decision" else COMPLETION]))
    try:
        answer = engine(reply).answer(REQUESTS[kind])
        assert Reply.from_json(answer.to_json()) == answer
        evidence = read_labels(answer.distributions, LABELS)
    except UnreadableReply:
        return
    assert check_row(np.exp(evidence.log_proba))
