"""Label probabilities from the alternatives that Mistral lists.

They come from the first position of the answer. Where a label is not told apart there (several
tokens, a beginning that labels share), the answer is begun for the model with the documented
``prefix`` and the next position read; else one sampled answer is all there is to look at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.backends.mistral.chat import (
    Chat,
    Completion,
    Position,
    notes_on,
    usage_of,
)
from skllm_calib.evidence.backends.mistral.errors import no_log_probabilities
from skllm_calib.evidence.label_tokens import Distribution, LabelTree
from skllm_calib.exceptions import (
    BackendError,
    BackendUnavailable,
    ContextTooLong,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["LabelReader"]

# Most tokens that are sampled to see how an answer goes on.
_MAX_SAMPLED = 4
_SAME_LOGPROB = 0.1


class LabelReader:
    """Reads the labels of one request.

    Parameters
    ----------
    chat : Chat
    tree : LabelTree
        The answers of the request.
    request : Request
    n_listed : int
        How many alternatives to ask for at a position.
    """

    def __init__(self, chat: Chat, tree: LabelTree, request: Request, n_listed: int) -> None:
        self._chat = chat
        self._dialect = chat.dialect
        self._tree = tree
        self._messages = [{"role": m.role, "content": m.content} for m in request.messages]
        self._draw = request.draw
        self._n_listed = n_listed
        self._calls: list[Completion] = []

    def read(self) -> Reply:
        """Return text, distributions, usage and notes."""
        tree = self._tree
        longest = max(len(answer.encode()) for answer in tree.answers)
        n_sampled = 1 if self._dialect.continues else min(_MAX_SAMPLED, longest)
        first = self._look(n_sampled)
        positions, notes = first.positions, [*notes_on(first.refused)]
        found = {b"": tree.distribution(b"", positions[0].listed)}
        if tree.pending(found):
            if self._continues(positions[1:]):
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
                notes.append("labels that begin alike were not all told apart")
        most = self._dialect.most_listed
        if most is not None and most < self._n_listed:
            notes.append(f"the model lists {most} alternatives, not {self._n_listed}")
        usage = usage_of(self._calls)
        distributions = tuple(found[prefix] for prefix in sorted(found))
        return Reply(first.text, distributions, notes=tuple(notes), refused=first.refused, **usage)

    def _follow(self, found: dict[bytes, Distribution]) -> None:
        """Read what follows each beginning that could still change a label."""
        tree = self._tree
        # A label has few tokens and few beginnings; the bound only guards against odd tokenizers.
        for _ in range(4 * tree.n_labels + 64):
            prefix = next(filter(_is_text, tree.pending(found)), None)
            if prefix is None:
                return
            try:
                listed = self._look(1, prefix).positions[0].listed
            except UnreadableReply:  # the model ended there: nothing proven, all of it possible
                listed = ()
            found[prefix] = tree.distribution(prefix, listed)

    def _continues(self, sampled: tuple[Position, ...]) -> bool:
        """Tell whether the log-probabilities after ``prefix`` are those of the next token.

        That the answer goes on is documented, what is listed then is not. So the beginning of a
        sampled answer is given back once: the next position must look as it did in the sample.
        """
        known = self._dialect
        with known.lock:
            usable = (p for p in sampled if p.listed and _is_text(p.prefix) and _is_word(p.prefix))
            if known.continues is None and (seen := next(usable, None)) is not None:
                try:
                    again = self._look(1, seen.prefix).positions[0]
                except (BackendUnavailable, ContextTooLong):
                    raise  # says nothing of it; the next row tries again
                except BackendError:
                    known.continues = False
                else:
                    known.continues = _look_alike(seen, again)
            return bool(known.continues)

    def _look(self, n_tokens: int, prefix: bytes = b"") -> Completion:
        """Return what was written and what was listed, at the first position at least."""
        known, chat, messages = self._dialect, self._chat, self._messages
        if known.no_logprobs is not None:
            raise chat.stop_with(no_log_probabilities(chat.model, known.no_logprobs))
        if prefix:
            turn: dict[str, Any] = {"role": "assistant", "content": prefix.decode(), "prefix": True}
            messages = [*messages, turn]
        # Whether log-probabilities are reported before or after the division by the temperature is
        # not documented: at 1 both are the same.
        call = chat.ask(
            messages,
            draw=self._draw,
            max_tokens=n_tokens,
            temperature=1.0,
            logprobs=True,
            top_logprobs=self._n_listed,
        )
        self._calls.append(call)
        if call.reasoned:
            raise chat.stop_with(
                SignalUnavailable(
                    f"the model {chat.model!r} reasons before it answers: the probabilities after "
                    "that restate a decision already taken, near 0 or 1, and calibrate badly. Turn "
                    "it off with reasoning_effort='none' where the model takes that, or use "
                    "signal='self_reported' or signal='self_consistency'."
                )
            )
        if call.positions and call.positions[0].listed:
            known.shows_logprobs = True
            return call
        if not call.positions and not call.text.strip():
            raise UnreadableReply(
                f"the model {chat.model!r} wrote nothing (finish_reason {call.finish_reason!r})"
            )
        if known.shows_logprobs:
            raise UnreadableReply(f"the server sent no log-probabilities with {call.text!r}")
        known.no_logprobs = "the server sent none"
        raise chat.stop_with(no_log_probabilities(chat.model, known.no_logprobs))


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


def _look_alike(a: Position, b: Position) -> bool:
    """Tell whether two lists are those of the same place, up to a server's rounding."""
    if a.listed[0].text != b.listed[0].text:
        return False
    return abs(a.listed[0].logprob - b.listed[0].logprob) < _SAME_LOGPROB
