"""How the tokenizer of a local model spells the labels, token by token.

A backend that runs a model in this process follows these tokens and reads the probability of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from skllm_calib.evidence.label_tokens import N_SHOWN, LabelTree
from skllm_calib.evidence.token_lists import Distribution, Sent, Token

__all__ = ["Spellings"]

# A token that spells a label in an unusual way ("s" + "pam") is kept from this log-probability on.
_UNLIKELY = math.log(1e-4)


class Spellings:
    """How a tokenizer spells each answer: the nodes of a tree of token ids.

    Parameters
    ----------
    answers : tuple of str
        What the model is asked to write for each class.
    tokenize : callable
        From a text to its tokens, each an id and the bytes that it writes.

    Attributes
    ----------
    tree : LabelTree
        The answers as bytes.
    paths : dict of bytes to tuple of int
        Token ids of each beginning after which some answer goes on.
    steps : dict of bytes to dict of int to bytes
        After each beginning, the tokens that go on, and their texts.
    own_next : dict of (bytes, int) to int
        The token with which the label itself, written as given, goes on after a beginning.
    depth : int
        Tokens of the longest spelling.
    """

    def __init__(
        self, answers: tuple[str, ...], tokenize: Callable[[str], list[tuple[int, bytes]]]
    ) -> None:
        self.tree = LabelTree(answers)
        self.paths: dict[bytes, tuple[int, ...]] = {}
        self.steps: dict[bytes, dict[int, bytes]] = {}
        self.own_next: dict[tuple[bytes, int], int] = {}
        self.depth = 0
        for k, answer in enumerate(answers):
            for spelling in self.tree.spellings(k):
                for lead in ("", " "):
                    prefix: bytes = b""
                    ids: tuple[int, ...] = ()
                    for token_id, piece in tokenize(lead + spelling):
                        # Two spellings may reach the same text over other tokens: first wins.
                        if self.paths.setdefault(prefix, ids) != ids:
                            break
                        self.steps.setdefault(prefix, {})[token_id] = piece
                        if not lead and spelling == answer:
                            self.own_next[prefix, k] = token_id
                        prefix, ids = prefix + piece, (*ids, token_id)
                        self.depth = max(self.depth, len(ids))

    def distribution(
        self, prefix: bytes, listed: Mapping[int, Token], forced: int | None = None
    ) -> Distribution:
        """Keep of the listed tokens those that spell an answer, and the likeliest few.

        `forced` is the token that was made to be written, which is listed without having a rank.
        """
        sent = {i: Sent(token.text, token.logprob, i) for i, token in listed.items()}
        written = None if forced is None else sent[forced]
        found = self.tree.distribution(prefix, sent.values(), written)
        wanted = {listed[i].text for i in self.steps.get(prefix, ()) if i in listed}
        kept = (
            t
            for i, t in enumerate(found.tokens)
            if i < N_SHOWN or t.text in wanted or t.logprob > _UNLIKELY
        )
        return replace(found, tokens=tuple(kept))

    def begun(self, first: Distribution) -> str:
        """Return the likeliest token with which an answer begins, as it was given."""
        firsts = {self.steps[b""][i] for (prefix, _), i in self.own_next.items() if not prefix}
        begun = [t for t in first.tokens if t.text in firsts]
        return max(begun, key=lambda t: t.logprob).text.decode(errors="replace") if begun else ""
