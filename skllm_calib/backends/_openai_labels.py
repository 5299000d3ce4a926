"""Label probabilities from the alternatives that a server lists.

They come from the first position of the answer. Where a label is not told apart there (several
tokens, a beginning that labels share), the answer is begun for the model and the next position
read, where the server allows that; else one sampled answer is all there is to look at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from skllm_calib.backends._openai_chat import Chat, Tally
from skllm_calib.backends._openai_dialect import CONTINUATIONS, Continuation
from skllm_calib.backends._openai_errors import no_log_probabilities
from skllm_calib.backends.base import Reply, Request
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    SignalUnavailable,
    UnreadableReply,
)
from skllm_calib.label_tokens import Distribution, LabelTree, Token

__all__ = ["LabelReader"]

_THINKING = ("<think", "<|channel|>", "<reasoning", "[think", "◁think")
# Most tokens that are sampled to see how an answer goes on.
_MAX_SAMPLED = 4
# What hosted models document as their most; what a server of one's own lists at no cost; and what
# it lists for rows where the labels hold so little that they hide even behind that.
_LISTED = (20, 500, 5_000, 50_000)
# Servers write minus infinity as a large negative number: JSON has no infinity.
_IMPOSSIBLE = -9000.0
_SAME_LOGPROB = 0.1


class _Position(NamedTuple):
    """What was listed at one position of the answer, the likeliest first."""

    prefix: bytes
    listed: tuple[Token, ...]


class LabelReader:
    """Reads the labels of one request.

    Parameters
    ----------
    chat : Chat
    tree : LabelTree
        The answers of the request.
    request : Request
    tally : Tally
        Where the calls are counted.
    top_logprobs : int or None
        As in the backend.
    """

    def __init__(
        self, chat: Chat, tree: LabelTree, request: Request, tally: Tally, top_logprobs: int | None
    ) -> None:
        self._chat = chat
        self._dialect = chat.dialect
        self._tree = tree
        self._messages = [{"role": m.role, "content": m.content} for m in request.messages]
        self._draw = request.draw
        self._tally = tally
        self._top_logprobs = top_logprobs
        self._rung = 1 if self._dialect.lists_many else 0

    def read(self) -> Reply:
        """Return text, distributions and notes."""
        known, tree = self._dialect, self._tree
        text, positions = self._look(self._n_to_sample())
        found = {b"": tree.distribution(b"", positions[0].listed)}
        while tree.doubtful(found) and self._may_list_more():
            text, positions = self._look_further(text, positions)
            found = {b"": tree.distribution(b"", positions[0].listed)}
        notes = known.notes(self._n_listed)
        if tree.pending(found):
            if self._can_continue(positions[1:]):
                self._follow(found)
                if not tree.pending(found):
                    # What is still open was too little to follow: too little to count, too.
                    found = {p: replace(d, followed=True) for p, d in found.items()}
            else:
                for position in positions[1:]:
                    if not tree.match(position.prefix).partial:
                        break
                    there = tree.distribution(position.prefix, position.listed)
                    found.setdefault(position.prefix, there)
                if tree.pending(found):
                    notes += (
                        "labels that begin alike were not all told apart: this server does not "
                        "continue a given beginning",
                    )
        return Reply(text, tuple(found[prefix] for prefix in sorted(found)), notes=notes)

    @property
    def _n_listed(self) -> int:
        """How many alternatives to ask for at a position."""
        if self._top_logprobs is not None:
            return self._top_logprobs
        return _LISTED[self._rung if self._dialect.lists_many else 0]

    def _may_list_more(self) -> bool:
        more = self._dialect.lists_many is not False and self._rung < len(_LISTED) - 1
        return self._top_logprobs is None and more

    def _look_further(self, text: str, positions: list[_Position]) -> tuple[str, list[_Position]]:
        """Ask for more alternatives; find out, once, whether the server lists them."""
        known = self._dialect
        self._rung += 1
        with known.lock:
            if known.lists_many is None:
                known.lists_many = True
                try:
                    further = self._look(self._n_to_sample())
                except (BackendUnavailable, ContextTooLong):
                    known.lists_many = None  # says nothing of the list; the next row tries again
                    raise
                except BackendError:
                    known.lists_many = False
                    return text, positions
                known.lists_many = len(further[1][0].listed) > _LISTED[0]
                return further
        return self._look(self._n_to_sample()) if known.lists_many else (text, positions)

    def _n_to_sample(self) -> int:
        """Return how many tokens to have written.

        One, where the answer can be continued at will; else enough to follow the likeliest one.
        """
        if self._dialect.can_continue:
            return 1
        return min(_MAX_SAMPLED, max(len(answer.encode()) for answer in self._tree.answers))

    def _follow(self, found: dict[bytes, Distribution]) -> None:
        """Read what follows each beginning that could still change a label."""
        how, tree = self._dialect.continuation, self._tree
        assert how is not None
        # A label has few tokens and few beginnings; the bound only guards against odd tokenizers.
        for _ in range(4 * tree.n_labels + 64):
            prefix = next(filter(_is_text, tree.pending(found)), None)
            if prefix is None:
                return
            try:
                _, (position, *_) = self._look(1, (how, prefix))
            except UnreadableReply:  # the model ended there: nothing proven, all of it possible
                found[prefix] = tree.distribution(prefix, [])
            else:
                found[prefix] = tree.distribution(prefix, position.listed)

    def _can_continue(self, sampled: Sequence[_Position]) -> bool:
        """Tell whether an answer that was begun is continued; find out how, the first time.

        The beginning of a sampled answer is given back to the model: it is continued if the next
        position then looks as it did in the sample. A new turn looks different.
        """
        known = self._dialect
        if known.can_continue is not None:
            return known.can_continue
        with known.lock:
            if known.can_continue is not None:
                return known.can_continue
            usable = (p for p in sampled if p.listed and _is_text(p.prefix) and _is_word(p.prefix))
            if (seen := next(usable, None)) is None:
                known.had_no_sample()
                return False
            for how in CONTINUATIONS:
                try:
                    _, (again, *_) = self._look(1, (how, seen.prefix))
                except (BackendUnavailable, ContextTooLong):
                    raise  # says nothing of this way; the next row tries again
                except BackendError:
                    continue
                if _look_alike(seen, again):
                    known.settle_continuation(how)
                    return True
            known.settle_continuation(None)
            return False

    def _look(
        self, n_tokens: int, begun: tuple[Continuation, bytes] | None = None
    ) -> tuple[str, list[_Position]]:
        """Return what was written and what was listed at each position, the first one at least."""
        known, messages = self._dialect, self._messages
        if known.no_logprobs is not None:
            raise self._chat.stop_with(no_log_probabilities(self._chat.model, known.no_logprobs))
        extra: Mapping[str, Any] = {}
        if begun is not None:
            how, prefix = begun
            turn = {"role": "assistant", "content": prefix.decode(), **how.message}
            messages, extra = [*messages, turn], how.extra
        # Some servers divide by the temperature before they report, and some models take no other
        # one than 1. At 1 all of them report the same. What is written is then a draw, so nothing
        # but the list is read: adding a written token from behind its end would make the labels
        # depend on that draw.
        completion = self._chat.ask(
            messages,
            self._tally,
            max_tokens=n_tokens,
            temperature=1.0,
            draw=self._draw,
            extra=extra,
            logprobs=True,
            top_logprobs=self._n_listed,
        )
        choice = completion.choices[0]
        text = choice.message.content or ""
        positions = _positions(choice)
        self._check_no_thinking(completion, positions)
        if positions and positions[0].listed:
            known.shows_logprobs = True
            return text, positions
        if not positions and not text.strip():
            raise UnreadableReply(
                f"the model {self._chat.model!r} wrote nothing "
                f"(finish_reason {choice.finish_reason!r})"
            )
        if known.shows_logprobs:
            raise UnreadableReply(f"the server sent no log-probabilities with {text!r}")
        what = "lists only the token it wrote" if positions else "the server sent none"
        known.no_logprobs = what
        raise self._chat.stop_with(no_log_probabilities(self._chat.model, what))

    def _check_no_thinking(self, completion: Any, positions: Sequence[_Position]) -> None:
        """Refuse probabilities that are not those of an undecided model."""
        message = completion.choices[0].message
        thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        details = getattr(getattr(completion, "usage", None), "completion_tokens_details", None)
        thought = thought or getattr(details, "reasoning_tokens", None)
        if positions and positions[0].listed:
            top = positions[0].listed[0].text.decode(errors="replace").lstrip().lower()
            thought = thought or top.startswith(_THINKING)
        if thought:
            raise self._chat.stop_with(
                SignalUnavailable(
                    f"the model {self._chat.model!r} thinks before it answers: the probabilities "
                    "after that restate a decision already taken, near 0 or 1, and calibrate "
                    "badly. Turn reasoning off, for example with extra_body={'reasoning_effort': "
                    "'none'} or extra_body={'chat_template_kwargs': {'enable_thinking': False}}, "
                    "or use signal='self_reported' or signal='self_consistency'."
                )
            )


def _positions(choice: Any) -> list[_Position]:
    logprobs = getattr(choice, "logprobs", None)
    positions, prefix = [], b""
    for item in getattr(logprobs, "content", None) or []:
        listed = filter(None, map(_token, getattr(item, "top_logprobs", None) or []))
        by_rank = tuple(sorted(listed, key=lambda token: -token.logprob))
        positions.append(_Position(prefix, by_rank))
        prefix += _bytes(item)
    return positions


def _bytes(item: Any) -> bytes:
    raw = getattr(item, "bytes", None)
    return item.token.encode() if raw is None else bytes(raw)


def _token(item: Any) -> Token | None:
    logprob = item.logprob
    if logprob is None or not math.isfinite(logprob) or logprob < _IMPOSSIBLE:
        return None
    return Token(_bytes(item), logprob)


def _is_text(prefix: bytes) -> bool:
    try:
        prefix.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_word(prefix: bytes) -> bool:
    """Tell whether a beginning survives chat templates, which trim blanks and read marks."""
    text = prefix.decode()
    return bool(text.strip()) and text == text.rstrip() and not set(text) & set("<|>[]")


def _look_alike(a: _Position, b: _Position) -> bool:
    """Tell whether two lists are those of the same place, up to a server's rounding."""
    if not a.listed or not b.listed or a.listed[0].text != b.listed[0].text:
        return False
    return abs(a.listed[0].logprob - b.listed[0].logprob) < _SAME_LOGPROB
