from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from skllm_calib.evidence.label_tokens import N_SHOWN, Distribution, LabelTree, Token


def listed(probabilities):
    """Tokens from a mapping of text (str or bytes) to probability."""
    return [
        Token(text if isinstance(text, bytes) else text.encode(), math.log(p))
        for text, p in probabilities.items()
    ]


def reduce(answers, after, **changes):
    """Reduce what is listed after each beginning; a plain mapping is that of the empty one."""
    if not isinstance(next(iter(after.values())), dict):
        after = {b"": after}
    tree = LabelTree(answers)
    found = {
        prefix: replace(tree.distribution(prefix, listed(p)), **changes)
        for prefix, p in after.items()
    }
    return tree.reduce(found)


def points(answers, after, **changes):
    return reduce(answers, after, **changes).point.tolist()


# ------------------------------------------------------------------------------- single tokens


def test_single_tokens():
    mass = reduce(["A", "B"], {"A": 0.6, "B": 0.3, "Well": 0.1})
    np.testing.assert_allclose(mass.point, [0.6, 0.3])
    np.testing.assert_allclose(mass.low, mass.point)
    np.testing.assert_allclose(mass.high, mass.point)
    assert mass.seen.all()
    assert mass.off_label == pytest.approx(0.1)
    assert mass.shared == 0.0


def test_spelling_variants_are_summed():
    a = {"A": 0.2, " A": 0.1, "a": 0.05, "▁A": 0.04, "ĠA": 0.03, "ĊA": 0.02, "\nA": 0.01}
    np.testing.assert_allclose(points(["A", "B"], {**a, "B": 0.4}), [sum(a.values()), 0.4])


@pytest.mark.parametrize("token", ["spam", "Spam", "SPAM", '"spam', "**Spam", "`spam`", "('spam'"])
def test_case_quotes_and_markdown(token):
    np.testing.assert_allclose(points(["ham", "spam"], {token: 0.7, "ham": 0.3}), [0.3, 0.7])


@pytest.mark.parametrize("token", ["spammy", "spam_1", "spam2", "spamé", b"spam\xc3", "xspam"])
def test_longer_words_are_no_label(token):
    assert points(["ham", "spam"], {token: 0.7, "ham": 0.3, "spam": 1e-9})[1] < 1e-8


@pytest.mark.parametrize("token", ["spam.", "spam,", "spam\n", "spam**", 'spam"', "spam because"])
def test_a_label_may_be_followed_by_what_is_no_word(token):
    np.testing.assert_allclose(points(["ham", "spam"], {token: 0.7, "ham": 0.3}), [0.3, 0.7])


@pytest.mark.parametrize(
    ("label", "token"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "Caf\u00e9"),
        ("\u0130yi", "iyi"),
        ("\u2764", "\u2764\ufe0f"),
    ],
)
def test_two_ways_of_encoding_a_label(label, token):
    np.testing.assert_allclose(points([label, "bar"], {token: 0.7, "bar": 0.3}), [0.7, 0.3])


@pytest.mark.parametrize(
    ("label", "token"),
    [("cafe", "cafe\u0301"), ("\u0939", "\u0939\u093e\u0901"), ("\u0e14", "\u0e14\u0e35")],
)
def test_a_sign_on_the_last_letter_makes_another_word(label, token):
    assert points([label, "bar"], {token: 0.7, "bar": 0.3, label: 1e-9})[0] < 1e-8


def test_opening_marks_alone_say_nothing():
    mass = reduce(["ham", "spam"], {'"': 0.5, " ": 0.2, "spam": 0.2, "ham": 0.1})
    np.testing.assert_allclose(mass.point, [0.1, 0.2])
    assert mass.off_label == pytest.approx(0.7)


def test_end_of_text_tokens_without_bytes_are_off_label():
    np.testing.assert_allclose(points(["A", "B"], {"A": 0.5, "": 0.5})[0], 0.5)


def test_labels_that_differ_in_case_only():
    np.testing.assert_allclose(points(["IT", "it"], {"IT": 0.5, "it": 0.3, "It": 0.2}), [0.5, 0.3])
    assert LabelTree(["IT", "it"]).spellings(0) == ["IT"]


def test_spellings_begin_with_the_label_as_given():
    assert LabelTree(["not spam"]).spellings(0) == [
        "not spam",
        "NOT SPAM",
        "Not Spam",
        "Not spam",
    ]


def test_rounding_of_a_server_does_not_make_more_than_one():
    mass = reduce(["A", "B"], {"A": 0.7, "B": 0.3008})
    assert mass.point.sum() == pytest.approx(1.0)
    assert mass.off_label == pytest.approx(0.0)


def test_n_labels():
    assert LabelTree(["a", "b", "c"]).n_labels == 3


# ------------------------------------------------------------------------------- several tokens


def test_a_beginning_of_one_label_only_is_that_label():
    mass = reduce(["ham", "spam"], {"sp": 0.6, "ham": 0.4})
    np.testing.assert_allclose(mass.point, [0.4, 0.6])
    assert mass.low[1] == 0.0
    assert mass.high[1] == pytest.approx(0.6)


def test_common_beginning_is_followed():
    after = {
        b"": {"card": 0.8, "top": 0.2},
        b"card": {"_arr": 0.7, "_lin": 0.2, "zz": 0.1},
        b"card_arr": {"ival": 0.9, "zz": 0.1},
        b"card_lin": {"king": 1.0},
    }
    mass = reduce(["card_arrival", "card_linking", "top_up"], after)
    np.testing.assert_allclose(mass.point, [0.8 * 0.7 * 0.9, 0.8 * 0.2, 0.2])
    assert mass.shared == 0.0


def test_common_beginning_not_followed_is_shared_and_bounded():
    mass = reduce(["card_arrival", "card_linking", "top_up"], {"card": 0.8, "top": 0.2})
    np.testing.assert_allclose(mass.point, [0.4, 0.4, 0.2])
    np.testing.assert_allclose(mass.low, 0.0)
    np.testing.assert_allclose(mass.high, [0.8, 0.8, 0.2])
    assert mass.shared == pytest.approx(0.8)


@pytest.mark.parametrize("going_on", [" spam", " Spam"])
def test_a_label_that_begins_with_another_one(going_on):
    after = {b"": {"not": 0.9, "spam": 0.1}, b"not": {going_on: 0.6, ".": 0.3, "": 0.1}}
    if going_on == " Spam":  # "not Spam" is no spelling of the label
        after[b"not"] |= {" spam": 1e-12}
        assert points(["not", "not spam", "spam"], after)[1] < 1e-9
    else:
        np.testing.assert_allclose(
            points(["not", "not spam", "spam"], after), [0.36, 0.54, 0.1], atol=1e-9
        )


def test_the_shorter_label_unfollowed_is_an_upper_bound_of_the_longer():
    mass = reduce(["New", "Newcastle"], {"New": 1.0})
    np.testing.assert_allclose(mass.point, [1.0, 0.0])
    np.testing.assert_allclose(mass.low, 0.0)
    np.testing.assert_allclose(mass.high, 1.0)
    after = {b"": {"New": 1.0}, b"New": {"castle": 0.3, "": 0.7}}
    np.testing.assert_allclose(points(["New", "Newcastle"], after), [0.7, 0.3])


def test_characters_split_into_bytes():
    after = {b"": {b"\xc3": 0.9, "non": 0.1}, b"\xc3": {b"\xa9t\xc3\xa9": 0.8, b"\xa8re": 0.2}}
    np.testing.assert_allclose(points(["été", "ère", "non"], after), [0.72, 0.18, 0.1])


def test_followed_distributions_count_no_loose_beginnings():
    loose = {"s": 0.5, "ham": 0.3, "spam": 0.2}
    np.testing.assert_allclose(points(["ham", "spam"], loose), [0.3, 0.7])
    np.testing.assert_allclose(points(["ham", "spam"], loose, followed=True), [0.3, 0.2])


LABELS = ["card_arrival", "card_linking", "card", "not", "not spam", "ham", "ham and eggs"]


def spelled(finished):
    """The label that a finished answer spells: the longest one that ends at the end of a word."""
    fits = [k for k, label in enumerate(LABELS) if re.match(rf"{label}(?![a-zA-Z0-9_])", finished)]
    return max(fits, key=lambda k: len(LABELS[k]), default=None)


class RandomModel:
    """A small random language model over pieces of the labels, known in full."""

    def __init__(self, seed, n_ways=1, longest=None):
        self.rng = np.random.default_rng(seed)
        self.n_ways = n_ways
        self.longest = longest
        self.known = {}

    def after(self, prefix):
        if prefix not in self.known:
            goes_on = [x[len(prefix) :] for x in LABELS if x.startswith(prefix) and x != prefix]
            pieces = {
                x[: self.rng.integers(1, (self.longest or len(x)) + 1)]
                for x in goes_on * self.n_ways
            }
            # Behind a label only what ends it; elsewhere words that are none.
            ends = ["", ".", " indeed", "!"] if prefix in LABELS else ["", ".", "zz", "qq"]
            tokens = sorted(pieces) + ends
            p = self.rng.dirichlet(np.full(len(tokens), 0.6)) + 1e-12
            self.known[prefix] = dict(zip(tokens, p / p.sum(), strict=True))
        return self.known[prefix]

    def truth(self, prefix="", mass=1.0):
        total = np.zeros(len(LABELS))
        for token, p in self.after(prefix).items():
            written = prefix + token
            if token and any(x.startswith(written) for x in LABELS):
                total += self.truth(written, mass * p)
            elif (k := spelled(written)) is not None:
                total[k] += mass * p
        return total

    def ask(self, tree, prefix, n_listed=None):
        tokens = sorted(listed(self.after(prefix.decode())), key=lambda t: -t.logprob)
        return tree.distribution(prefix, tokens[:n_listed])


@pytest.mark.parametrize("n_ways", [1, 3])
@pytest.mark.parametrize("seed", range(15))
def test_exact_once_all_is_followed(seed, n_ways):
    model, tree = RandomModel(seed, n_ways), LabelTree(LABELS)
    found = {b"": model.ask(tree, b"")}
    while pending := tree.pending(found, tolerance=0.0):
        assert not set(pending) & set(found)
        for prefix in pending:
            found[prefix] = model.ask(tree, prefix)
    mass = tree.reduce(found)
    np.testing.assert_allclose(mass.point, model.truth(), atol=1e-12)
    np.testing.assert_allclose(mass.low, mass.high, atol=1e-9)


@pytest.mark.parametrize("seed", range(15))
def test_the_tolerance_bounds_the_error(seed):
    model, tree = RandomModel(seed), LabelTree(LABELS)
    found = {b"": model.ask(tree, b"")}
    while pending := tree.pending(found):
        found[pending[0]] = model.ask(tree, pending[0])
    mass, truth = tree.reduce(found), model.truth()
    # A few beginnings of a thousandth of the whole each may be left; of a rare label, a tenth.
    np.testing.assert_allclose(mass.point, truth, rtol=2e-2, atol=3e-3 * truth.sum())


def test_pending_gives_the_likeliest_first():
    tree = LabelTree(LABELS)
    probabilities = {"ca": 0.1, "no": 0.6, "ham": 0.3}
    assert tree.pending({b"": tree.distribution(b"", listed(probabilities))}) == [
        b"no",
        b"ham",
        b"ca",
    ]


# ------------------------------------------------------------------------------- censoring


def test_a_label_behind_the_cut_is_bounded_not_zero():
    mass = reduce(["A", "B", "C"], {"A": 0.9, "x": 0.05, "y": 0.02})
    assert mass.seen.tolist() == [True, False, False]
    np.testing.assert_allclose(mass.point[1:], min(0.02, 0.03 / 2))
    np.testing.assert_allclose(mass.low[1:], 0.0)
    np.testing.assert_allclose(mass.high, [0.92, 0.02, 0.02])


def test_the_residual_bounds_too():
    mass = reduce(["A", "B"], {"A": 0.8, "x": 0.1, "y": 0.0999})
    assert mass.high[1] == pytest.approx(0.0001)
    assert mass.point[1] == pytest.approx(0.0001)


def test_an_empty_list_bounds_nothing():
    mass = LabelTree(["A", "B"]).reduce({b"": LabelTree(["A", "B"]).distribution(b"", [])})
    assert not mass.seen.any()
    np.testing.assert_allclose(mass.high, 1.0)


@pytest.mark.parametrize("seed", range(40))
def test_bounds_contain_the_truth_of_single_tokens(seed):
    rng = np.random.default_rng(seed)
    answers = [f"w{i}" for i in range(int(rng.integers(2, 9)))]
    tokens = answers + [f"~{i}" for i in range(20)]
    p = rng.dirichlet(np.full(len(tokens), rng.choice([0.1, 0.5, 2.0]))) + 1e-15
    full = sorted(listed(dict(zip(tokens, p / p.sum(), strict=True))), key=lambda t: -t.logprob)
    tree, truth = LabelTree(answers), p[: len(answers)] / p.sum()
    for n_listed in (1, 2, 5, 10, len(tokens)):
        dist = tree.distribution(b"", full[:n_listed])
        mass = tree.reduce({b"": dist})
        assert (mass.low <= mass.point).all()
        assert (mass.point <= mass.high).all()
        assert (mass.low <= truth + 1e-12).all()
        assert (truth <= mass.high + 1e-12).all()
        assert mass.point.sum() <= 1 + 1e-12
        hidden = mass.high[~mass.seen]
        assert (hidden <= min(dist.smallest, dist.residual) + 1e-12).all()


@pytest.mark.parametrize("n_listed", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(15))
def test_bounds_contain_the_truth_of_trees(seed, n_listed):
    # Letter by letter, so that there is one token only with which a label goes on.
    model, tree = RandomModel(seed, longest=1), LabelTree(LABELS)
    found = {b"": model.ask(tree, b"", n_listed)}
    truth = model.truth()
    while True:
        mass = tree.reduce(found)
        assert (mass.low <= mass.point + 1e-12).all()
        assert (mass.point <= mass.high + 1e-12).all()
        assert (mass.low <= truth + 1e-12).all()
        assert (truth <= mass.high + 1e-12).all()
        if not (pending := tree.pending(found, tolerance=0.0)):
            break
        found[pending[0]] = model.ask(tree, pending[0], n_listed)


def test_doubtful_names_labels_that_the_cut_could_change():
    tree = LabelTree(["A", "B"])
    found = {b"": tree.distribution(b"", listed({"A": 0.9, "x": 0.05}))}
    assert tree.doubtful(found) == [(b"", 0), (b"", 1)]
    found = {b"": tree.distribution(b"", listed({"A": 0.6, "B": 0.4}))}
    assert tree.doubtful(found) == []


# ------------------------------------------------------------------------------- what is kept


def test_only_what_matters_is_kept():
    probabilities = {f"~{i}": 0.05 - i / 1000 for i in range(15)} | {"A": 1e-6, "x": 1e-7}
    dist = LabelTree(["A", "B"]).distribution(b"", listed(probabilities))
    assert [t.text for t in dist.tokens] == [f"~{i}".encode() for i in range(N_SHOWN)] + [b"A"]
    assert dist.listed_mass == pytest.approx(sum(probabilities.values()))
    assert dist.smallest == pytest.approx(1e-7)


def test_residual_stays_in_range():
    assert Distribution(b"", (), 1.01, 0.1).residual == 0.0
    assert Distribution(b"", (), 0.75, 0.1).residual == 0.25


def test_many_labels():
    keys = [f"{i:03d}" for i in range(1, 151)]
    p = np.random.default_rng(0).dirichlet(np.ones(150))
    np.testing.assert_allclose(points(keys, dict(zip(keys, p, strict=True))), p)
    # The same, written digit by digit.
    joint = dict(zip(keys, p, strict=True))

    def share(prefix):
        return sum(v for k, v in joint.items() if k.startswith(prefix))

    after = {}
    for prefix in {"", *(k[:n] for k in keys for n in (1, 2))}:
        nexts = sorted({k[: len(prefix) + 1] for k in keys if k.startswith(prefix)})
        after[prefix.encode()] = {k[-1]: share(k) / share(prefix) for k in nexts}
    np.testing.assert_allclose(points(keys, after), p)


# ----------------------------------------------------------------- where a label begins and ends


@pytest.mark.parametrize("blank", ["\n", " ", "\n\n", "\ufeff", "\u00a0", "\u3000", "“", "\t"])
def test_a_label_is_read_behind_a_blank(blank):
    first = {blank: 0.97, "A": 0.02, "B": 0.01}
    mass = reduce(["A", "B"], {b"": first, blank.encode(): {"B": 0.9, "A": 0.1}})
    np.testing.assert_allclose(mass.point, [0.97 * 0.1 + 0.02, 0.97 * 0.9 + 0.01])
    assert mass.is_settled
    unread = reduce(["A", "B"], first)
    assert not unread.is_settled
    assert unread.blank == pytest.approx(0.97)


@pytest.mark.parametrize(("p_blank", "is_read"), [(2e-4, False), (5e-4, True), (0.05, True)])
def test_openings_are_many_where_labels_hold_next_to_nothing(p_blank, is_read):
    tree = LabelTree(["A", "B"])
    first = {"\n": p_blank, "A": 2e-6, "B": 1e-6, "x": 1 - p_blank - 3e-6}
    found = {b"": tree.distribution(b"", listed(first))}
    assert tree.pending(found) == ([b"\n"] if is_read else [])
    assert tree.pending(found, 1.0) == []  # who is content with less looks behind fewer
    assert tree.reduce(found).is_settled == (p_blank < 0.02)


def test_keys_are_looked_behind_where_it_is_cheap():
    tree = LabelTree(["A", "B", "C"])
    found = {b"": tree.distribution(b"", listed({"A": 0.6, " B": 0.3, "C": 0.01, "x": 0.09}))}
    assert tree.pending(found) == []
    assert tree.pending(found, behind_keys=True) == [b"A", b" B"]
    found[b"A"] = tree.distribution(b"A", listed({" customer": 0.75, ")": 0.25}))
    found[b" B"] = tree.distribution(b" B", listed({".": 1.0}))
    assert tree.pending(found, behind_keys=True) == []
    np.testing.assert_allclose(tree.reduce(found).point, [0.15, 0.3, 0.01])
    words = LabelTree(["spam", "ham"])
    found = {b"": words.distribution(b"", listed({"spam": 0.6, "ham": 0.4}))}
    assert words.pending(found, behind_keys=True) == []


def test_beginnings_that_the_tokenizer_does_not_write_are_worth_little():
    tree = LabelTree(["spam", "ham"])
    first = {"sp": 0.5, "ham": 0.3, "s": 0.02, "h": 0.1, "x": 0.08}
    found = {b"": tree.distribution(b"", listed(first))}
    assert tree.pending(found, 3e-3) == [b"sp", b"h", b"s"]
    assert tree.pending(found, 3e-3, usual={b"", b"sp"}) == [b"sp", b"h"]
    # Where a label has no other beginning, it is looked behind all the same.
    found = {b"": tree.distribution(b"", listed({"ham": 0.3, "s": 0.02, "x": 0.68}))}
    assert tree.pending(found, 3e-3, usual={b"", b"sp"}) == [b"s"]


def test_bytes_of_a_blank_may_be_tokens_of_their_own():
    assert LabelTree(["A", "B"]).match("\ufeff".encode()[:2]).blank
    assert not LabelTree(["\N{THUMBS UP SIGN}", "B"]).match(b"\xf0\x9f").blank


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("I", "I'm"),
        ("I", "I’m"),
        ("I", "I am"),
        ("A", "A customer"),
        ("E", "e-mail"),
        ("3", "3 reasons"),
        ("90", "90% of"),
        ("1", "1,000"),
        ("C", "C++"),
        ("C", "C#"),
        ("no", "no-one"),
        ("U", "U.S"),
    ],
)
def test_the_beginning_of_another_word_is_not_the_label(label, written):
    assert LabelTree([label, "other"]).match(written.encode()).complete is None


@pytest.mark.parametrize("rest", ["", ".", ")", ":", ",", "\n", "**", '"', ") ham", ": ham", " -"])
def test_a_key_ends_before_marks(rest):
    assert LabelTree(["A", "B"]).match(f"A{rest}".encode()).complete == 0
    assert LabelTree(["A", "B"]).match(b"'A'").complete == 0


def test_what_follows_a_key_is_taken_from_it():
    after = {b"": {"A": 0.97, "B": 0.03}, b"A": {" customer": 0.95, ".": 0.05}}
    mass = reduce(["A", "B"], after)
    np.testing.assert_allclose(mass.point, [0.97 * 0.05, 0.03])
    assert mass.left == pytest.approx(0.97 * 0.95)


@pytest.mark.parametrize("labels", [("C", "C#", "C++"), ("not spam", "not sure"), ("no", "nope")])
def test_beginnings_that_are_not_followed_are_not_settled(labels):
    shared = labels[0].split(" ")[0]
    mass = reduce([*labels, "other"], {shared: 0.9, "other": 0.1})
    assert not mass.is_settled
    assert mass.unsettled == pytest.approx(0.9)


def test_an_answer_that_ends_in_the_middle_of_labels_is_not_settled():
    """Nothing is listed behind the end: no label has a part of what came before it."""
    tree = LabelTree(["card lost", "card stolen", "refund"])
    root = tree.distribution(b"", [Token(b"card", np.log(0.4)), Token(b"refund", np.log(0.6))])
    found = {b"": root, b"card": tree.distribution(b"card", ())}
    found = {prefix: replace(at, followed=True) for prefix, at in found.items()}
    mass = tree.reduce(found)
    assert not mass.is_settled
    assert mass.unsettled == pytest.approx(0.4)
    assert tree.pending(found) == []


def test_a_label_that_is_listed_in_full_has_no_shorter_beginning():
    assert reduce(["1", "10"], {"1": 0.5, "10": 0.5}).is_settled
