"""A model loaded by llama.cpp in this process, and how label probabilities are read from it.

``backend.py`` holds the parameters; the loaded model is kept by the process (``handles``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import Message, Reply, Request
from skllm_calib.evidence.backends.framing import ChatFormat, Framing, Part
from skllm_calib.evidence.backends.hosted.answer import NOT_AS_EXPECTED, count, first
from skllm_calib.evidence.backends.llama_cpp.gguf import special_tokens
from skllm_calib.evidence.backends.llama_cpp.loopback import post, read_field
from skllm_calib.evidence.backends.openai.systemone import read_systemone, systemone_body
from skllm_calib.evidence.label_tokens import Distribution, Token
from skllm_calib.evidence.spellings import Spellings
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    MissingDependency,
    ModelNotFound,
    SignalUnavailable,
    SkllmCalibError,
    UnreadableReply,
)

__all__ = ["LlamaEngine"]

# Alternatives that are read at the first position and at later ones, where few matter; the whole
# vocabulary would cost half a second. Label tokens behind the last one are read one by one.
_N_LISTED, _N_LISTED_LATER = 500, 100
_N_LISTED_LONG = 5_000  # for rows where the labels hold little: 40 ms
_WHOLE_VOCABULARY = 1 << 20
_SURELY = 1000.0  # a bias that no logit can match
# One more token takes a tenth of the time of a row, so shares of the labels within three
# thousandths of themselves are enough.
_TOLERANCE = 3e-3


class _Prompt(NamedTuple):
    """Token ids of a prompt, and the slot that reads it."""

    ids: list[int]
    slot: int

    def then(self, more: tuple[int, ...]) -> _Prompt:
        """Return the prompt with the beginning of an answer behind it."""
        return self._replace(ids=[*self.ids, *more])


class LlamaEngine:
    """A loaded model. Kept by the process, never on an estimator."""

    def __init__(self, path: Path, name: str, options: Mapping[str, Any]) -> None:
        xllamacpp = _import_xllamacpp()
        with open(path, "rb") as f:
            if f.read(4) != b"GGUF":
                raise ModelNotFound(
                    f"{str(path)!r} is not a GGUF file (it does not begin with GGUF)"
                )
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        threads = options["n_threads"] or min(8, _usable_cores())
        self.n_parallel = options["n_parallel"] or max(1, threads // 4)
        # The context is shared by the slots, in equal parts that do not touch each other.
        params.n_ctx = options["n_ctx"] * self.n_parallel
        params.n_parallel = self.n_parallel
        params.kv_unified = False
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.n_ubatch = options["n_ubatch"]
        params.n_gpu_layers = options["n_gpu_layers"]
        # llama.cpp would keep the state of old prompts, up to 8 GiB of it: a megabyte a row that
        # is written about, and no prompt comes back whose reply is not in our cache.
        params.cache_ram_mib = 0
        params.warmup = False
        params.verbosity = -1
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as e:
            raise ModelNotFound(
                f"llama.cpp could not load {str(path)!r}: the file is damaged, of a kind this "
                f"version does not know, or too large for the available memory ({e})"
            ) from e
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.n_parallel):
            self._slots.put(slot)
        self._framing = Framing(_LlamaChat(self._post, path))
        self._plain = self._tokenize("a")[-1][0]
        self._reuse = options["reuse_prefix"]
        self._n_ctx = options["n_ctx"]
        self._model = name
        self._spellings: dict[tuple[str, ...], Spellings] = {}

    @property
    def address(self) -> str:
        """Where the server in this process listens; on the loopback interface only."""
        return str(self._server.listening_address)

    def answer(self, request: Request) -> Reply:
        """Answer one request in a slot of its own, whose memory of the prompt it builds on."""
        if request.dropout is not None:
            raise SignalUnavailable(
                "llama.cpp has no dropout: use the transformers backend for signal='mc_dropout'"
            )
        slot = self._slots.get()
        try:
            if request.choices:
                with _in_known_form():
                    return self._decide(request)
            prompt = _Prompt(self._prompt(request.messages), slot)
            if request.answers:
                with _in_known_form():
                    return self._labels(prompt, request)
            return self._text(prompt, request)
        finally:
            self._slots.put(slot)

    def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens a prompt has; of a decision, only the model knows."""
        return None if request.choices else len(self._prompt(request.messages))

    def _text(self, prompt: _Prompt, request: Request) -> Reply:
        self._check_length(len(prompt.ids) + request.max_tokens)
        options: dict[str, Any] = {}
        if request.schema:
            options["json_schema"] = json.loads(request.schema)
        elif request.among:
            options["grammar"] = _grammar(request.among)
        with _in_known_form():
            reply = self._complete(
                prompt,
                n_predict=request.max_tokens,
                temperature=request.temperature,
                seed=_seed(request),
                **options,
            )
            choice, usage = reply["choices"][0], reply["usage"]
            return Reply(
                text=_text_of(choice),
                cut=choice.get("finish_reason") == "length",
                model=self._model,
                prompt_tokens=count(usage, "prompt_tokens"),
                completion_tokens=count(usage, "completion_tokens"),
                cached_tokens=count(first(usage, "prompt_tokens_details"), "cached_tokens"),
            )

    def _decide(self, request: Request) -> Reply:
        """Request a decision; a model that is no decision model says so."""
        body = self._server.handle_systemone(systemone_body(request))
        if (error := body.get("error")) is not None:
            said = error.get("message", error)
            if error.get("code") == 501:
                raise SignalUnavailable(
                    f"llama.cpp: {said}. The signals 'logprobs', 'self_reported' and "
                    "'self_consistency' work with every model of this backend"
                )
            raise BackendError(f"llama.cpp: {said}")
        return replace(read_systemone(body, request.choices), model=self._model)

    def _labels(self, prompt: _Prompt, request: Request) -> Reply:
        """Follow each label token by token through the tree of their spellings."""
        spelled = self._spelled(request.answers)
        tree = spelled.tree
        self._check_length(len(prompt.ids) + spelled.depth)
        found: dict[bytes, Distribution] = {}
        paths = dict(spelled.paths)
        wanted = [b""]
        while wanted:
            for prefix in wanted:
                n_listed = _N_LISTED_LATER if prefix else _N_LISTED
                top = self._likeliest(prompt.then(paths[prefix]), n_listed)
                found[prefix] = spelled.distribution(prefix, top, forced=next(iter(top)))
                for token_id, token in top.items():
                    paths.setdefault(prefix + token.text, (*paths[prefix], token_id))
            self._read_behind_the_cut(prompt, spelled, found)
            pending = tree.pending(found, _TOLERANCE, behind_keys=True, usual=spelled.paths)
            wanted = [p for p in pending if p in paths and p not in found]
        return Reply(
            text=spelled.begun(found[b""]),
            distributions=tuple(replace(d, followed=True) for d in found.values()),
            model=self._model,
            prompt_tokens=len(prompt.ids),
            completion_tokens=len(found),
        )

    def _read_behind_the_cut(
        self, prompt: _Prompt, spelled: Spellings, found: dict[bytes, Distribution]
    ) -> None:
        """Where a label may hide behind the end of a list: read a longer list, then its tokens."""
        doubtful = {prefix for prefix, _ in spelled.tree.doubtful(found, _TOLERANCE)}
        for prefix in doubtful & set(spelled.paths):
            if found[prefix].n_listed < _N_LISTED_LONG:
                here = prompt.then(spelled.paths[prefix])
                top = self._likeliest(here, _N_LISTED_LONG)
                found[prefix] = spelled.distribution(prefix, top, forced=next(iter(top)))
        for prefix, k in spelled.tree.doubtful(found, _TOLERANCE):
            if (token_id := spelled.own_next.get((prefix, k))) is None:
                continue
            piece, known = spelled.steps[prefix][token_id], found[prefix]
            if piece not in {t.text for t in known.tokens}:
                here = prompt.then(spelled.paths[prefix])
                token = Token(piece, self._logprob_of(here, token_id))
                found[prefix] = replace(
                    known,
                    tokens=(*known.tokens, token),
                    listed_mass=known.listed_mass + math.exp(token.logprob),
                )

    def _likeliest(self, prompt: _Prompt, n_probs: int) -> dict[int, Token]:
        """Return the likeliest tokens after a prompt by their ids; the first is a plain one."""
        listed = self._listed(prompt, n_probs, write=self._plain)
        if not listed:
            raise UnreadableReply("llama.cpp reported no probabilities for this prompt")
        return listed

    def _listed(self, prompt: _Prompt, n_probs: int, *, write: int) -> dict[int, Token]:
        """Let one token be written and read the list; empty if the token is no text by itself.

        llama.cpp reports nothing for a token that writes nothing yet (the end of the text, a part
        of a character). The first of the list is the one that was written. It is chosen with a
        bias; the reported probabilities are those without it.
        """
        bias = [[write, _SURELY]]
        reply = self._complete(
            prompt, n_predict=1, n_probs=n_probs, temperature=0.0, logit_bias=bias
        )
        content = (reply["choices"][0].get("logprobs") or {}).get("content") or []
        if not content:
            return {}
        tokens = [content[0], *content[0]["top_logprobs"]]
        return {t["id"]: Token(bytes(t["bytes"]), t["logprob"]) for t in tokens}

    def _logprob_of(self, prompt: _Prompt, token_id: int) -> float:
        """Read the log-probability of one chosen token, however unlikely."""
        listed = self._listed(prompt, 1, write=token_id)
        if token_id not in listed:  # a part of a character: only the whole vocabulary shows it
            listed = self._likeliest(prompt, _WHOLE_VOCABULARY)
        return listed[token_id].logprob

    def _spelled(self, answers: tuple[str, ...]) -> Spellings:
        if answers not in self._spellings:
            self._spellings[answers] = Spellings(answers, self._tokenize)
        return self._spellings[answers]

    def _tokenize(self, text: str) -> list[tuple[int, bytes]]:
        body = {"content": self._framing.cut(text), "parse_special": False, "with_pieces": True}
        tokens = read_field(self._post("/tokenize", body), "tokens", list)
        # A piece that is no text by itself (part of a character) comes as a list of bytes.
        return [
            (t["id"], t["piece"].encode() if isinstance(t["piece"], str) else bytes(t["piece"]))
            for t in tokens
        ]

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Write the conversation in the model's own chat format, as token ids."""
        return self._framing.ids(messages)

    def _complete(self, prompt: _Prompt, **options: Any) -> dict[str, Any]:
        body = {"prompt": prompt.ids, "id_slot": prompt.slot, "cache_prompt": self._reuse}
        body |= options
        reply: dict[str, Any] = self._server.handle_completions(body)
        if (error := reply.get("error")) is not None:
            raise BackendError(f"llama.cpp: {error.get('message', error)}")
        return reply

    def _check_length(self, n_tokens: int) -> None:
        """Refuse a prompt that does not fit together with its answer, before reading any of it."""
        excess = n_tokens - self._n_ctx
        if excess > 0:
            raise ContextTooLong(
                f"prompt and answer take {n_tokens} tokens, {excess} more than fit into the "
                f"context of n_ctx={self._n_ctx}: shorten the text or increase n_ctx",
                excess,
            )

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return post(self.address, path, body)


class _LlamaChat(ChatFormat):
    """The chat format of a loaded model."""

    def __init__(self, post: Callable[[str, dict[str, Any]], Any], path: Path) -> None:
        self._post = post
        self.specials = special_tokens(path)

    def render(self, messages: Sequence[Message]) -> str:
        turns = [message._asdict() for message in messages]
        text: str = read_field(self._post("/apply-template", {"messages": turns}), "prompt", str)
        return text

    def tokenize(self, text: str) -> list[int]:
        return self._ids(text, add_special=True, parse_special=True)

    def tokenize_parts(self, parts: Sequence[Part]) -> list[int]:
        return self._ids(list(parts), parse_special=False)

    def _ids(self, content: Any, **options: bool) -> list[int]:
        reply = self._post("/tokenize", {"content": content, **options})
        ids: list[int] = read_field(reply, "tokens", list)
        return ids


@contextmanager
def _in_known_form() -> Iterator[None]:
    """What cannot be read of an answer is the failure of its row."""
    try:
        yield
    except SkllmCalibError:
        raise
    except NOT_AS_EXPECTED as e:
        raise UnreadableReply(f"llama.cpp answered in an unknown form: {e!r:.200}") from e


def _text_of(choice: Mapping[str, Any]) -> str:
    if not isinstance(text := choice["text"], str):
        raise TypeError(f"{text!r:.60} in the place of a text")
    return text


@lru_cache(maxsize=256)
def _grammar(answers: tuple[str, ...]) -> str:
    return "root ::= " + " | ".join(json.dumps(a) for a in answers)


def _import_xllamacpp() -> Any:
    """Import the package with threads that wait quietly.

    By default its threads (libgomp) spin for milliseconds while they wait for one another; as soon
    as anything else wants a core, they wait for a thread that does not run, and a prompt takes
    twenty times as long. The setting is read when the library is loaded, so the environment is
    changed for this moment only.
    """
    name = "GOMP_SPINCOUNT"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1000")
    try:
        import xllamacpp  # noqa: PLC0415 (optional)
    except ImportError as e:
        raise MissingDependency(
            "local models need the package 'xllamacpp': pip install 'skllm-calib[llamacpp]' "
            f"(importing it said: {e})"
        ) from e
    finally:
        if before is None:
            os.environ.pop(name, None)
    return xllamacpp


def _seed(request: Request) -> int:
    """Return one seed per draw: a draw can be repeated, and two draws or two texts differ."""
    content = json.dumps([request.messages, request.draw])
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:4], "big") >> 1


def _usable_cores() -> int:
    """Return how many cores to use; joblib shares them out among its workers by the variable."""
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if allowed.isdecimal() and int(allowed) > 0:
        return int(allowed)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
