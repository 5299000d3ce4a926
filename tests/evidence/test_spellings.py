from __future__ import annotations

import math

from skllm_calib.evidence.label_tokens import Token
from skllm_calib.evidence.spellings import Spellings

PIECES = [b"sp", b" sp", b"am", b"it", b"s", b"p", b"a", b"m", b"i", b"t", b" "]


def tokenize(text):
    """Take the first piece that fits, as a tokenizer of a few pieces does; others byte by byte."""
    rest, tokens = text.encode(), []
    while rest:
        piece = next((p for p in PIECES if rest.startswith(p)), rest[:1])
        tokens.append((PIECES.index(piece) if piece in PIECES else 100 + piece[0], piece))
        rest = rest[len(piece) :]
    return tokens


def test_the_tree_of_spellings():
    spelled = Spellings(("spam", "spit"), tokenize)
    assert spelled.paths[b""] == ()
    assert spelled.paths[b"sp"] == (0,)
    assert spelled.paths[b" sp"] == (1,)  # after a space another token writes the beginning
    assert spelled.steps[b"sp"] == {2: b"am", 3: b"it"}
    assert {spelled.own_next[b"sp", k] for k in (0, 1)} == {2, 3}
    assert spelled.own_next[b"", 0] == spelled.own_next[b"", 1] == 0
    assert all(len(path) < spelled.depth for path in spelled.paths.values())


def test_a_beginning_that_two_spellings_reach_keeps_its_first_path():
    # "SPAM" is written letter by letter, " SPAM" with a space before: no beginning has two paths.
    spelled = Spellings(("spam",), tokenize)
    for prefix, path in spelled.paths.items():
        assert b"".join(PIECES[i] if i < 100 else bytes([i - 100]) for i in path) == prefix


def test_distributions_keep_what_spells_a_label_and_the_likeliest():
    spelled = Spellings(("spam", "spit"), tokenize)
    listed = {
        **{50 + i: Token(f"x{i}".encode(), math.log(0.15)) for i in range(6)},
        0: Token(b"sp", math.log(1e-6)),
        4: Token(b"s", math.log(1e-3)),
        90: Token(b"spa", math.log(1e-5)),
    }
    kept = {t.text for t in spelled.distribution(b"", listed).tokens}
    assert b"sp" in kept  # a label begins so, however unlikely it is
    assert b"s" in kept  # an unusual way of beginning, likely enough
    assert b"spa" not in kept  # an unusual way that is too unlikely
    assert len(kept & {f"x{i}".encode() for i in range(6)}) == 5  # what the model favours
