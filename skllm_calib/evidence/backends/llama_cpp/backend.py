"""llama.cpp in this process, through the prebuilt wheels of ``xllamacpp``.

The label probabilities are exact: the whole distribution over the vocabulary is known, a label of
several tokens is followed token by token, and what the prompts share is read once (the prefix stays
in the model's cache between requests). This file holds the parameters, ``engine`` the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from skllm_calib.evidence.backends.base import AnswerForm, BaseBackend, Reply, Request
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.facts import ModelFacts
from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.evidence.backends.hosted.run import answer_or_stop
from skllm_calib.evidence.backends.hosted.verdicts import RunSwitch, Verdicts
from skllm_calib.evidence.backends.llama_cpp.engine import LlamaEngine
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.exceptions import BackendError, ModelNotFound

__all__ = ["LlamaCppBackend"]


class LlamaCppBackend(BaseBackend):
    """A GGUF model run by llama.cpp inside this process.

    Parameters
    ----------
    model : str, default="smollm2"
        Path of a GGUF file, or "smollm2" for the small model installed by pip
        (``skllm-calib download smollm2``).
    n_ctx : int, default=2048
        Tokens of context for one prompt.
    n_parallel : int or None, default=None
        Prompts worked on at the same time (slots), each with a context of its own. None takes one
        for every four cores in use: fewer cores are kept busy by one prompt alone, and more slots
        were slower on two.
    n_threads : int or None, default=None
        Processor cores to use; None takes as many as ``OMP_NUM_THREADS`` says (joblib sets it in
        its workers), else the cores this process may use, at most eight. More threads than free
        cores make it several times slower.
    n_ubatch : int, default=32
        Tokens computed in one step. Up to 32, a prompt gives the same numbers to the last bit
        whether its beginning was reused or not, alone or beside others; from 64 on llama.cpp
        chooses other matrix routines on many processors and log-probabilities of a small
        quantised model move by up to 0.4 with the order of the rows. Increase it for a large model
        on a GPU, where speed matters more.
    n_gpu_layers : int, default=0
        Layers to place on a GPU, if the installed wheel was built for one; -1 for all.
    reuse_prefix : bool, default=True
        Whether the beginning that prompts share is read once. Turn it off only to measure what
        it saves.

    Notes
    -----
    Every worker process loads a model of its own: for local models use ``n_jobs=1`` or threads in
    scikit-learn's tools; the rows are computed in parallel here anyway.

    Examples
    --------
    >>> from skllm_calib.backends import LlamaCppBackend
    >>> LlamaCppBackend("models/my-model.gguf", n_ctx=4096)
    LlamaCppBackend(model='models/my-model.gguf', n_ctx=4096)
    """

    answer_form: AnswerForm = "words"
    shows_logprobs = True

    def __init__(
        self,
        model: str = "smollm2",
        *,
        n_ctx: int = 2048,
        n_parallel: int | None = None,
        n_threads: int | None = None,
        n_ubatch: int = 32,
        n_gpu_layers: int = 0,
        reuse_prefix: bool = True,
    ) -> None:
        self.model = model
        self.n_ctx = n_ctx
        self.n_parallel = n_parallel
        self.n_threads = n_threads
        self.n_ubatch = n_ubatch
        self.n_gpu_layers = n_gpu_layers
        self.reuse_prefix = reuse_prefix

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer: the content of the model file, not where it is."""
        return {
            "provider": "llama_cpp",
            "model": file_digest(self._path()),
            "n_ubatch": self.n_ubatch,
            "n_gpu_layers": self.n_gpu_layers,
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `n_parallel` at a time."""
        engine = self._engine()
        answer = Verdicts(RunSwitch(), ModelFacts()).answer
        return answer_or_stop(partial(answer, "any", engine.answer), requests, engine.n_parallel)

    def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens the prompt of a request has, in the model's own chat format."""
        return self._engine().count_tokens(request)

    def http_address(self) -> str:
        """Load the model and return its address on this machine, for other programs.

        Returns
        -------
        str
            Base address of an OpenAI-compatible server, such as "http://127.0.0.1:40123/v1"; it
            answers for as long as this process keeps the model.
        """
        return f"{self._engine().address}/v1"

    def _path(self) -> Path:
        if self.model == "smollm2":
            return find_smollm2()
        path = Path(self.model).expanduser()
        if not path.is_file():
            raise ModelNotFound(
                f"no model file {self.model!r}: 'model' of the llama.cpp backend is the path of a "
                "GGUF file, or 'smollm2' for the small model installed by pip"
            )
        return path

    def _engine(self) -> LlamaEngine:
        path = self._path()
        options = self.get_params()
        key = ("llama_cpp", str(path.resolve()), *sorted(options.items(), key=lambda o: o[0]))
        try:
            return get_handle(key, lambda: LlamaEngine(path, file_digest(path), options))
        except StopRunError as stop:
            failure = stop.failure
        raise failure


@lru_cache(maxsize=64)
def _digest(path: str, size: int, mtime_ns: int) -> str:
    """Hash the size and evenly spread samples: fast also for a file of many gigabytes."""
    digest = hashlib.sha256(str(size).encode())
    block, n_blocks = 1 << 20, 16
    with open(path, "rb") as f:
        for i in range(n_blocks):
            f.seek(max(0, (size - block)) * i // (n_blocks - 1))
            digest.update(f.read(block))
    return f"gguf:{digest.hexdigest()[:20]}"


def file_digest(path: Path) -> str:
    """Return a short name for the content of a model file, such as "gguf:1f0c...".

    Only 16 MB are read, spread evenly over the file.
    """
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)
