"""RowDialogue: the dialogue about one row, step by step, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.signals.base import Answered, Dialogue, Evidence
from skllm_calib.evidence.usage import Usage
from skllm_calib.exceptions import BackendError, UnreadableReply

__all__ = ["RowDialogue", "RowRecord"]


@dataclass(frozen=True)
class RowRecord:
    """Everything known about one row: its evidence, or why there is none."""

    evidence: Evidence | None
    failure: BackendError | None
    replies: tuple[Reply, ...]
    usage: Usage

    @property
    def model(self) -> str:
        """The model as served."""
        return self.replies[0].model if self.replies else ""


class RowDialogue:
    """The dialogue about one row, which goes on when all answers of a step are there.

    Parameters
    ----------
    position : int
        Position of the row.
    fields : mapping
        The texts of the row by field name.
    dialogue : Dialogue
        What the signal asks about it.
    identity : mapping
        What of the backend is part of the keys of requests.

    Attributes
    ----------
    missing : dict of str to Request
        By their keys, the requests that are not answered yet.
    keys : set of str
        Those of all requests so far.
    was_asked : bool
        Whether any answer was not known before this call.
    """

    def __init__(
        self,
        position: int,
        fields: Mapping[str, str],
        dialogue: Dialogue,
        identity: Mapping[str, Any],
    ) -> None:
        self.position = position
        self.fields = fields
        self.missing: dict[str, Request] = {}
        self.keys: set[str] = set()
        self.was_asked = False
        self._dialogue: Dialogue | None = dialogue
        self._identity = identity
        self._subject = "\n".join(fields.values())
        self._step: list[str] = []  # the keys of what is wanted now
        self._answers: dict[str, Answered] = {}
        self._from_cache: set[str] = set()
        self._evidence: Evidence | None = None
        self._failure: BackendError | None = None
        self._replies: list[Reply] = []
        self._usage = Usage()
        self._take_steps(None)

    @property
    def is_over(self) -> bool:
        """Whether the row has its evidence, or failed."""
        return self._dialogue is None

    def take(self, key: str, answer: Answered, *, from_cache: bool) -> bool:
        """Take in an answer; return whether that ended a step, so that others are missing now."""
        self._answers[key] = answer
        if from_cache:
            self._from_cache.add(key)
        del self.missing[key]
        if self.missing:
            return False
        self._take_steps(self._read_step())
        return True

    def record(self, max_off_label: float) -> RowRecord:
        """Return what came out of it."""
        evidence = self._evidence
        if evidence is not None and evidence.off_label > max_off_label:
            self._evidence, self._failure = None, _off_label(evidence, max_off_label)
        return RowRecord(self._evidence, self._failure, tuple(self._replies), self._usage)

    def _read_step(self) -> list[Answered]:
        """Return the answers of this step, and note what they took."""
        for key in self._step:
            answer = self._answers[key]
            if isinstance(answer, Reply):
                self._replies.append(answer)
                self._usage += _usage(answer, from_cache=key in self._from_cache)
                self._from_cache.add(key)  # a reply that is needed twice is paid for once
        return [self._answers[key] for key in self._step]

    def _take_steps(self, answers: list[Answered] | None) -> None:
        """Go on until an answer is missing, or to the end."""
        assert self._dialogue is not None
        try:
            while not self.missing:
                wanted = next(self._dialogue) if answers is None else self._dialogue.send(answers)
                requests = [replace(request, subject=self._subject) for request in wanted]
                self._step = [request.key(self._identity) for request in requests]
                self.keys.update(self._step)
                self.missing = {
                    key: request
                    for key, request in zip(self._step, requests, strict=True)
                    if key not in self._answers
                }
                answers = [] if self.missing else self._read_step()
        except StopIteration as end:
            self._evidence, self._dialogue = end.value, None
        except BackendError as failure:
            self._failure, self._dialogue = failure, None


def _off_label(evidence: Evidence, limit: float) -> UnreadableReply:
    """Say where the evidence went that fell on no label."""
    top = evidence.details.get("top_tokens") or []
    likeliest = ", ".join(f"{text!r} ({p:.0%})" for text, p in top[:3])
    where = f"; the likeliest beginnings are {likeliest}" if likeliest else ""
    written = "" if likeliest else f"; the model wrote {evidence.details.get('written', '')!r:.200}"
    return UnreadableReply(
        f"{evidence.off_label:.1%} of the evidence is on none of the labels "
        f"(max_off_label={limit:g}){where}{written}. Ask for the bare label in the prompt, or "
        "increase max_off_label"
    )


def _usage(reply: Reply, *, from_cache: bool) -> Usage:
    if from_cache:
        return Usage(n_cache_hits=1)
    return Usage(1, 0, reply.prompt_tokens, reply.completion_tokens)
