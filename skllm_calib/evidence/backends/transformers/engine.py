"""A model loaded by transformers in this process, and how label probabilities are read from it.

``backend.py`` holds the parameters; the loaded model is kept by the process (``handles``).

One prompt is read at a time, in steps of a fixed number of tokens from its start, and what is
reused of an earlier prompt ends where a step ends. So a prompt is always computed by the very same
operations on the very same numbers, and its probabilities are the same to the last bit alone, in
company, with its beginning remembered or not.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Message, Reply, Request
from skllm_calib.evidence.backends.framing import Framing
from skllm_calib.evidence.backends.transformers.chat import PLAIN_TEXT, TransformersChat
from skllm_calib.evidence.backends.transformers.dropout import (
    LayerDropout,
    content_seed,
    head_dropout,
)
from skllm_calib.evidence.backends.transformers.labels import Path, Pieces, Walk
from skllm_calib.evidence.backends.transformers.together import (
    SideBySide,
    copies,
    is_plain,
    n_shared,
    repeatable,
)
from skllm_calib.evidence.label_tokens import Distribution
from skllm_calib.evidence.spellings import Spellings
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    ModelNotFound,
    SignalUnavailable,
    UnreadableReply,
)

__all__ = ["Settings", "TorchEngine"]

_STEP = 32

# Reads on along some paths; gives the log-probabilities after each, (n_walks, n_vocabulary).
_Reader = Callable[[Sequence[Path]], Iterator[tuple[Path, Any]]]


class Settings(NamedTuple):
    """What of the parameters does not need the model to be loaded anew."""

    n_threads: int | None
    batch_size: int
    reuse_prefix: bool
    seed: int


class TorchEngine:
    """A loaded model. Kept by the process, never on an estimator."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._name = name
        self._lock = threading.Lock()
        self._memory: tuple[list[int], Any] | None = None  # the last prompt and its cache
        self._spellings: dict[tuple[str, ...], Spellings] = {}
        self._piece = Pieces(tokenizer)
        self._framing = Framing(TransformersChat(tokenizer))
        config = model.config.get_text_config()
        self._n_context = getattr(config, "max_position_embeddings", None) or math.inf
        self._ends = _ends(model, tokenizer)
        cache, body_cache = map(_name_of_cache, (model, model.base_model))
        if cache is None or body_cache is None:
            raise ModelNotFound(
                f"a {type(model).__name__} has no cache of keys and values to continue from, which "
                "is needed here: use a model with attention"
            )
        self._cache, self._body_cache = cache, body_cache
        # Only the logits of the last token are needed.
        known = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._has_gaps = {"attention_mask", "position_ids"} <= set(known)

    def answer(self, request: Request, settings: Settings) -> Reply:
        """Answer one request; others wait."""
        if request.choices:
            raise SignalUnavailable(
                "a causal language model has no decision endpoint: use signal='logprobs'"
            )
        with self._running(settings):
            ids, notes = self._prompt(request.messages)
            if request.answers:
                reply = self._labels(ids, request, settings)
            else:
                reply = self._text(ids, request, settings)
            return replace(reply, notes=notes)

    def answer_together(
        self, requests: Sequence[Request], settings: Settings
    ) -> list[Reply | BackendError]:
        """Answer requests for labels in as few passes as can be; others wait."""
        if self._has_gaps and len(requests) > 1:
            # What fails in company is asked alone, so that it costs no other.
            with contextlib.suppress(BackendError), self._running(settings):
                if replies := self._labels_together(requests, settings.batch_size):
                    return replies
        return [self._answer_or_failure(request, settings) for request in requests]

    def _answer_or_failure(self, request: Request, settings: Settings) -> Reply | BackendError:
        try:
            return self.answer(request, settings)
        except BackendError as failure:
            return failure

    @contextlib.contextmanager
    def _running(self, settings: Settings) -> Iterator[None]:
        """Have the model to oneself."""
        import torch  # noqa: PLC0415 (optional)

        with self._lock, torch.inference_mode(), _as_failure_of_the_row():
            if settings.n_threads and settings.n_threads != torch.get_num_threads():
                torch.set_num_threads(settings.n_threads)
            if not settings.reuse_prefix:
                self._memory = None
            yield

    def count_tokens(self, request: Request) -> int:
        """Return how many tokens a prompt has."""
        with self._lock:
            return len(self._prompt(request.messages)[0])

    # --------------------------------------------------------------------------------- labels

    def _labels(self, ids: list[int], request: Request, settings: Settings) -> Reply:
        spelled = self._spelled(request.answers)
        self._check_length(len(ids) + spelled.depth)
        (walk,) = self._follow([Walk(spelled, self._piece)], self._reader(ids, settings.batch_size))
        passes = self._passes(ids, spelled, request, settings.batch_size)
        return replace(self._reply(ids, spelled, walk), passes=passes)

    def _reply(self, ids: list[int], spelled: Spellings, walk: Walk) -> Reply:
        plain = walk.distributions
        return Reply(
            text=spelled.begun(plain[0]),
            distributions=plain,
            model=self._name,
            # What was reused is not told: a reply must not depend on what was asked before it.
            prompt_tokens=len(ids),
            completion_tokens=len(plain),
        )

    def _labels_together(
        self, requests: Sequence[Request], batch_size: int
    ) -> list[Reply | BackendError]:
        """Read prompts side by side; nothing if this model's memory does not allow it."""
        spellings = [self._spelled(request.answers) for request in requests]
        prompts, notes = zip(*(self._prompt(r.messages) for r in requests), strict=True)
        for ids, spelled in zip(prompts, spellings, strict=True):
            self._check_length(len(ids) + spelled.depth)
        if not (end := n_shared(prompts)):
            return []
        start, cache = self._recall(prompts[0][: end + 1])
        cache = self._read_body([prompts[0]], start, end, cache)
        if not is_plain(cache):
            return []
        self._memory = (prompts[0][:end], cache)
        beside = SideBySide(self._step, [ids[end:] for ids in prompts], end, cache)
        walks = [Walk(spelled, self._piece) for spelled in spellings]
        beside.follow(walks, max(batch_size, len(walks)))
        return [
            replace(self._reply(ids, spelled, walk), notes=note)
            for ids, spelled, walk, note in zip(prompts, spellings, walks, notes, strict=True)
        ]

    def _passes(
        self, ids: list[int], spelled: Spellings, request: Request, batch_size: int
    ) -> tuple[tuple[Distribution, ...], ...]:
        if (dropout := request.dropout) is None:
            return ()
        walks = [Walk(spelled, self._piece, brief=True) for _ in range(dropout.n_passes)]
        if dropout.where == "head":
            with head_dropout(self._model, request):
                self._follow(walks, self._reader(ids, batch_size))
        else:
            for first in range(0, len(walks), batch_size):
                some = walks[first : first + batch_size]
                passes = range(first, first + len(some))
                with LayerDropout(self._model, request, passes) as dropped:
                    self._follow(some, self._dropped_reader(ids, len(some), dropped))
        return tuple(walk.distributions for walk in walks)

    def _follow(self, walks: list[Walk], read: _Reader) -> list[Walk]:
        """Follow each label token by token through the tree of their spellings.

        Each row of readings has a walk of its own, for they differ in what is worth following;
        what several want to know is read once.
        """
        while paths := {path for walk in walks for path in walk.wanted}:
            for path, rows in read(sorted(paths, key=lambda p: (len(p), p))):
                for walk, logprobs in zip(walks, rows, strict=True):
                    walk.see(path, logprobs)
            for walk in walks:
                walk.look_further()
        return walks

    def _spelled(self, answers: tuple[str, ...]) -> Spellings:
        if answers not in self._spellings:
            for answer in answers:
                if b"".join(piece for _, piece in self._tokenize(answer)).strip() != (
                    answer.strip().encode()
                ):
                    raise SignalUnavailable(
                        f"the tokenizer of this model does not write {answer!r} as it is, so its "
                        "probability cannot be read: use other label texts"
                    )
            self._spellings[answers] = Spellings(answers, self._tokenize)
        return self._spellings[answers]

    def _tokenize(self, text: str) -> list[tuple[int, bytes]]:
        return [(i, self._piece(i)) for i in self._framing.plain_ids(text)]

    # ----------------------------------------------------------------------------------- text

    def _text(self, ids: list[int], request: Request, settings: Settings) -> Reply:
        import torch  # noqa: PLC0415 (optional)

        self._check_length(len(ids) + request.max_tokens)
        # One draw is one seed, so that a draw can be repeated and two draws differ.
        seed = content_seed(request.messages, request.draw, settings.seed)
        generator = torch.Generator().manual_seed(seed)
        written, at_end = list[int](), False
        logprobs, cache = self._read([ids], *self._recall(ids))
        self._memory = (ids, cache)
        while len(written) < request.max_tokens:
            if request.temperature > 0:
                shares = (logprobs[0] / request.temperature).softmax(-1).cpu()
                token = int(torch.multinomial(shares, 1, generator=generator))
            else:
                token = int(logprobs[0].argmax())
            if at_end := token in self._ends:
                break
            written.append(token)
            if len(written) < request.max_tokens:
                logprobs, cache = self._step([[token]], cache)
        return Reply(
            text=self._tokenizer.decode(written, skip_special_tokens=True),
            model=self._name,
            prompt_tokens=len(ids),
            completion_tokens=len(written),
            refused=("schema",) if request.schema else (),
            cut=not at_end,
        )

    # ---------------------------------------------------------------------------------- model

    def _reader(self, ids: list[int], batch_size: int) -> _Reader:
        """Read a prompt, and return what reads on from its end, several paths at a time."""
        at_end, cache = self._read([ids], *self._recall(ids))
        self._memory = (ids, cache)
        width = batch_size if repeatable(cache) else 1

        def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
            for length, same in itertools.groupby(paths, key=len):
                group = list(same)
                for i in range(0, len(group), width):
                    batch = group[i : i + width]
                    logprobs = self._step(batch, copies(cache, len(batch)))[0] if length else at_end
                    # Dropout at the head makes many rows of one: (passes, paths, vocabulary).
                    rows = logprobs.unflatten(0, (-1, len(batch))).transpose(0, 1)
                    yield from zip(batch, rows, strict=True)

        return read

    def _dropped_reader(self, ids: list[int], n_passes: int, dropped: LayerDropout) -> _Reader:
        """Read a prompt with a pass in each row, and return what reads on, path by path."""
        dropped.begin(None)
        at_end, cache = self._read([ids] * n_passes)

        def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
            for path in paths:
                dropped.begin(path)
                rows = self._step([path] * n_passes, copies(cache))[0] if path else at_end
                yield path, rows

        return read

    def _read(self, prompts: list[list[int]], start: int = 0, cache: Any = None) -> tuple[Any, Any]:
        """Read a prompt step by step; the last step gives the log-probabilities after it.

        Several prompts are the same one, in as many rows.
        """
        end = (len(prompts[0]) - 1) // _STEP * _STEP
        cache = self._read_body(prompts, start, end, cache)
        return self._step([p[end:] for p in prompts], cache)

    def _read_body(self, prompts: list[list[int]], start: int, end: int, cache: Any) -> Any:
        """Read on step by step with the body of the model alone: what follows is not needed."""
        for i in range(start, end, _STEP):
            out = self._model.base_model(
                input_ids=self._tensor([p[i : min(i + _STEP, end)] for p in prompts]),
                use_cache=True,
                **{self._body_cache: cache},
            )
            cache = out[self._body_cache]
        return cache

    def _recall(self, ids: list[int]) -> tuple[int, Any]:
        """Return how much of a prompt need not be read again, and the cache that holds it."""
        if self._memory is None:
            return 0, None
        known, cache = self._memory
        self._memory = None  # whatever happens now, a cache half changed is never used
        pairs = zip(known, ids[:-1], strict=False)
        n_common = next(
            (i for i, (a, b) in enumerate(pairs) if a != b), min(len(known), len(ids) - 1)
        )
        start = n_common // _STEP * _STEP
        if not start:
            return 0, None
        try:
            cache.crop(start - cache.get_seq_length())
        except (AttributeError, NotImplementedError, RuntimeError, ValueError):
            return 0, None  # caches that forget (sliding windows, states) cannot go back
        return (start, cache) if cache.get_seq_length() == start else (0, None)

    def _step(
        self,
        rows: Sequence[Sequence[int]],
        cache: Any,
        mask: Sequence[Sequence[int]] = (),
        positions: Sequence[Sequence[int]] = (),
    ) -> tuple[Any, Any]:
        """Read some more tokens; return the log-probabilities after them, and the longer cache."""
        gaps = {"attention_mask": mask, "position_ids": positions} if mask else {}
        out = self._model(
            input_ids=self._tensor(rows),
            use_cache=True,
            **self._last_only,
            **{self._cache: cache},
            **{name: self._tensor(value) for name, value in gaps.items()},
        )
        logprobs = out.logits[:, -1].float().log_softmax(-1)
        if logprobs.isnan().any():
            raise UnreadableReply(
                "the model computes no numbers (NaN) from this text: load it with another dtype, "
                "such as dtype='float32'"
            )
        return logprobs, out[self._cache]

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Any:
        import torch  # noqa: PLC0415 (optional)

        return torch.tensor([list(row) for row in rows], device=self._model.device)

    # --------------------------------------------------------------------------------- prompts

    def _prompt(self, messages: Sequence[Message]) -> tuple[list[int], tuple[str, ...]]:
        """Write the conversation in the model's own chat format, as token ids, and notes on it."""
        notes = (PLAIN_TEXT,) if self._tokenizer.chat_template is None else ()
        return self._framing.ids(messages), notes

    def _check_length(self, n_tokens: int) -> None:
        """Refuse a prompt that does not fit together with its answer, before reading any of it."""
        excess = n_tokens - self._n_context
        if excess > 0:
            raise ContextTooLong(
                f"prompt and answer take {n_tokens} tokens, {excess} more than fit into the "
                f"context of this model ({self._n_context}): shorten the text",
                int(excess),
            )


@contextlib.contextmanager
def _as_failure_of_the_row() -> Iterator[None]:
    """A row that takes too much memory, for example, costs no other row."""
    try:
        yield
    except RuntimeError as e:
        raise BackendError(f"torch could not compute this row: {e}") from e


def _name_of_cache(model: Any) -> str | None:
    """Return what a model calls its memory: transformers renames it, model by model, since 5.24."""
    known = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in known), None)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end a turn."""
    own = getattr(model.generation_config, "eos_token_id", None)
    own = own if isinstance(own, list) else [own]
    return {i for i in (*own, tokenizer.eos_token_id) if i is not None}
